//! One HTTP/2 connection of a proxy, and the gRPC streams on it.

use crate::delta::Delta;
use crate::fault::Fault;
use crate::kinds::{Kind, by_path};
use crate::plane::{Event as Told, Shared, What};
use crate::sotw::Sotw;
use crate::world::World;
use nuncio_wire::h2::{Connection, Event, Sent, Settings, StreamId};
use nuncio_wire::{Chunk, HeaderMap, ReadBuf, ResponseHead, name};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};

/// Longest request that is read, in bytes: a hundred thousand names.
const MOST: usize = 16 << 20;

enum Protocol {
    Sotw(Sotw),
    Delta(Delta),
}

/// One stream of requests and responses.
struct Call {
    protocol: Protocol,
    /// It carries only these.
    only: Option<&'static Kind>,
    input: Vec<u8>,
    output: VecDeque<Chunk>,
    /// It says nothing any more.
    hangs: bool,
    /// Trailers that follow.
    status: Option<(u32, String)>,
}

struct Server {
    codec: Connection,
    calls: BTreeMap<StreamId, Call>,
    shared: Arc<Shared>,
    number: u64,
}

/// Serves the connection to its end.
pub(crate) async fn serve(
    mut io: TcpStream,
    number: u64,
    shared: Arc<Shared>,
    mut changed: watch::Receiver<u64>,
    mut faults: broadcast::Receiver<Fault>,
) {
    let codec = Connection::server(Arc::new(Settings::default()));
    let mut s = Server { codec, calls: BTreeMap::new(), shared, number };
    let mut read = ReadBuf::new();
    let mut buf = vec![0; 64 * 1024];
    loop {
        if s.flush(&mut io).await.is_err() {
            return;
        }
        tokio::select! {
            n = io.read(&mut buf) => match n {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    read.extend(buf.get(..n).unwrap_or_default());
                    loop {
                        match s.codec.read(&mut read) {
                            Ok(Some(e)) => s.event(e),
                            Ok(None) => break,
                            Err(_) => {
                                let _ = s.flush(&mut io).await; // says why, if anybody still listens
                                return;
                            }
                        }
                    }
                }
            },
            is = changed.changed() => match is {
                Ok(()) => s.push(),
                Err(_) => return,
            },
            Ok(fault) = faults.recv() => match fault {
                Fault::Cut => return,
                other => s.fault(&other),
            },
        }
    }
}

impl Call {
    fn message(&mut self, bytes: &[u8]) {
        if self.hangs {
            return;
        }
        self.output.push_back(prefix(bytes.len()).to_vec().into());
        self.output.push_back(bytes.to_vec().into());
    }
    fn take(
        &mut self,
        bytes: &[u8],
        world: &World,
        tell: &mut dyn FnMut(&'static Kind, What),
    ) -> Result<(), String> {
        let only = self.only;
        let answer = match &mut self.protocol {
            Protocol::Sotw(p) => p.request(bytes, only, world, tell)?,
            Protocol::Delta(p) => p.request(bytes, only, world, tell)?,
        };
        if let Some(a) = answer {
            self.message(&a);
        }
        Ok(())
    }
    /// The next whole message of the input.
    fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(head) = self.input.first_chunk::<5>() else { return Ok(None) };
        let &[compressed, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if compressed != 0 || length > MOST {
            return Err("compressed, or too long".to_owned());
        }
        if self.input.len() < 5 + length {
            return Ok(None);
        }
        Ok(Some(self.input.drain(..5 + length).skip(5).collect()))
    }
}

/// What stands before a message (`Length-Prefixed-Message` of gRPC).
fn prefix(length: usize) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

impl Server {
    fn event(&mut self, e: Event) {
        match e {
            Event::Request { id, head, .. } => {
                let path = head.headers.get_str(name::PATH).unwrap_or_default();
                self.begin(id, by_path(path));
            }
            Event::Data { id, data, end, .. } => {
                self.codec.release(id, data.len());
                self.data(id, &data);
                if end && let Some(c) = self.calls.get_mut(&id) {
                    c.status.get_or_insert((0, String::new()));
                    self.write(id);
                }
            }
            Event::Reset { id, .. } | Event::StreamError { id, .. } => drop(self.calls.remove(&id)),
            Event::Writable { id, .. } => self.write(id),
            _ => {}
        }
    }
    fn begin(&mut self, id: StreamId, method: Option<(Option<&'static Kind>, bool)>) {
        let mut head = ResponseHead::new(200);
        head.headers.append("content-type", b"application/grpc");
        let (only, delta) = method.unwrap_or_default();
        if method.is_none() {
            // UNIMPLEMENTED
            head.headers.append("grpc-status", b"12");
        }
        // The proxy may have reset it.
        let begun = self.codec.send_response(id, &head, method.is_none()).is_ok();
        if begun && method.is_some() {
            let protocol = match delta {
                true => Protocol::Delta(Delta::default()),
                false => Protocol::Sotw(Sotw::default()),
            };
            let (input, output) = (vec![], VecDeque::new());
            self.calls.insert(id, Call { protocol, only, input, output, hangs: false, status: None });
        }
    }
    fn data(&mut self, id: StreamId, data: &[u8]) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.input.extend_from_slice(data);
        let (connection, tell) = (self.number, &self.shared.tell);
        let world = self.shared.world.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tell = |kind, what| tell(Told { connection, kind, what });
        loop {
            let taken = call.next().and_then(|m| match m {
                Some(m) => call.take(&m, &world, &mut tell).map(|()| true),
                None => Ok(false),
            });
            match taken {
                Ok(true) => {}
                Ok(false) => break,
                // INVALID_ARGUMENT
                Err(why) => {
                    call.status = Some((3, why));
                    break;
                }
            }
        }
        drop(world);
        self.write(id);
    }
    fn push(&mut self) {
        let (connection, tell) = (self.number, &self.shared.tell);
        let mut tell = |kind, what| tell(Told { connection, kind, what });
        let world = self.shared.world.lock().unwrap_or_else(PoisonError::into_inner);
        for call in self.calls.values_mut().filter(|c| !c.hangs) {
            let due = match &mut call.protocol {
                Protocol::Sotw(p) => p.push(&world, &mut tell),
                Protocol::Delta(p) => p.push(&world, &mut tell),
            };
            due.iter().for_each(|m| call.message(m));
        }
        drop(world);
        self.write_all();
    }
    fn fault(&mut self, fault: &Fault) {
        for call in self.calls.values_mut() {
            let delta = matches!(call.protocol, Protocol::Delta(_));
            match fault {
                Fault::Hang => {
                    call.output.push_back(prefix(1000).to_vec().into());
                    call.output.push_back(vec![0x0a; 10].into());
                    call.hangs = true;
                }
                Fault::End(status) => call.status = Some((*status, "told to end".to_owned())),
                other => {
                    if let Some(m) = other.response(delta) {
                        call.message(&m);
                    }
                }
            }
        }
        self.write_all();
    }
    fn write_all(&mut self) {
        let ids: Vec<_> = self.calls.keys().copied().collect();
        ids.into_iter().for_each(|id| self.write(id));
    }
    /// Hands over what the windows allow.
    fn write(&mut self, id: StreamId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        while let Some(chunk) = call.output.front_mut() {
            if self.codec.send_data(id, chunk, false) == Sent::Wait {
                return;
            }
            call.output.pop_front();
        }
        if let Some((status, message)) = call.status.take() {
            let mut trailers = HeaderMap::new();
            trailers.append("grpc-status", status.to_string().as_bytes());
            if !message.is_empty() {
                trailers.append("grpc-message", message.as_bytes());
            }
            let _ = self.codec.send_trailers(id, &trailers); // the proxy may have reset it
            self.calls.remove(&id);
        }
    }
    async fn flush(&mut self, io: &mut TcpStream) -> std::io::Result<()> {
        loop {
            while let Some((id, _)) = self.codec.writable() {
                self.write(id);
            }
            if !self.codec.wants_write() {
                return Ok(());
            }
            let out = self.codec.out();
            let bytes = out.front().to_vec();
            out.advance(bytes.len());
            io.write_all(&bytes).await?;
        }
    }
}
