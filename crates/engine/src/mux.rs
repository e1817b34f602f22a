//! An HTTP/2 connection with its socket, shared by the streams on it; the server's and the client's drivers build on it.
//!
//! One task drives the connection: it reads, hands frames to the streams' slots and writes. Streams append to the
//! codec's output and wake that task, which runs after them: what one turn of the loop produced leaves in one write.

use crate::io::{Io, Peer};
use nuncio_core::body::{BodyError, Frame};
use nuncio_core::error::ResetReason;
use nuncio_wire::buf::ChunkQueue;
use nuncio_wire::h2::{ConnError, Connection, ErrorCode, Event, Meter, Sent, StreamId, details};
use nuncio_wire::{Chunk, HeaderMap, ReadBuf, RequestHead, ResponseHead};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// Reads in a row before what they caused is written and other tasks run.
const READS: usize = 8;
/// Streams reset in a row before other tasks run: each is a request that we took up for nothing, and a read holds thousands
/// of them (CVE-2023-44487).
const RESETS: usize = 16;
/// With so many bytes waiting to be written, nothing more is read: what a peer that does not read makes us say
/// (answers to its requests, mostly) stays bounded in bytes as Envoy's flood limits bound it in frames.
const UNREAD: usize = 2 << 20;

/// A connection and its streams.
pub struct Mux {
    st: RefCell<State>,
}

struct State {
    io: Io,
    read: ReadBuf,
    codec: Connection,
    slots: Vec<Slot>,
    free: Vec<u32>,
    driver: Option<Waker>,
    closed: bool,
    /// Something was read before the connection was made.
    fed: bool,
    greeted: bool,
    /// The peer has answered a PING.
    pong: bool,
    rx: u64,
    tx: u64,
    /// All bytes that were ever written.
    written: u64,
    /// We are the client.
    client: bool,
}

/// What arrived for one stream, and what waits to be sent on it.
#[derive(Default)]
struct Slot {
    id: StreamId,
    used: bool,
    heads: VecDeque<(ResponseHead, bool)>,
    /// Body that nobody has taken yet; the stream's window bounds it.
    data: ChunkQueue,
    trailers: Option<Box<HeaderMap>>,
    ended: bool,
    reset: Option<(ResetReason, &'static str)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Data that the windows did not take yet, and whether it ends the stream.
    rest: Chunk,
    rest_ends: bool,
    /// Its bytes on the wire when they were looked at last: the codec forgets a stream with its last frame.
    meter: Meter,
    /// Client: so many bytes of the connection come before its head.
    begins_at: u64,
}

/// What the driver must act on itself.
pub enum Incoming {
    /// Server: a request; its slot is made.
    Request {
        /// Slot of the stream.
        slot: u32,
        /// Its head.
        head: RequestHead,
        /// No body follows.
        end: bool,
    },
    /// Server: a request whose head broke a rule; its stream is reset already.
    Refused {
        /// `%RESPONSE_CODE_DETAILS%`
        details: &'static str,
    },
    /// The peer will take no more streams.
    GoAway,
    /// The peer's limits may have changed.
    Settings,
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed it.
    Remote,
    /// The peer broke the protocol; what it should be told was written.
    Protocol(ConnError),
}

impl Mux {
    /// A connection over `io`; `read` holds what was read already. Who does not speak `first` writes nothing before
    /// the peer has said something acceptable.
    pub fn new(io: Io, read: ReadBuf, codec: Connection, first: bool) -> Mux {
        let st = State {
            io,
            fed: !read.is_empty(),
            read,
            codec,
            slots: vec![],
            free: vec![],
            driver: None,
            closed: false,
            greeted: first,
            pong: false,
            rx: 0,
            tx: 0,
            written: 0,
            client: first,
        };
        Mux { st: RefCell::new(st) }
    }
    /// Access to the codec.
    pub fn codec<R>(&self, f: impl FnOnce(&mut Connection) -> R) -> R {
        f(&mut self.st.borrow_mut().codec)
    }
    /// Bytes read and written since the last call.
    pub fn take_bytes(&self) -> (u64, u64) {
        let mut st = self.st.borrow_mut();
        (std::mem::take(&mut st.rx), std::mem::take(&mut st.tx))
    }
    /// A PING was answered since the last call.
    pub fn take_pong(&self) -> bool {
        std::mem::take(&mut self.st.borrow_mut().pong)
    }
    /// The connection has ended.
    pub fn is_closed(&self) -> bool {
        self.st.borrow().closed
    }
    /// Client: no byte of the stream has left.
    pub fn is_unsent(&self, slot: u32) -> bool {
        let st = self.st.borrow();
        st.slots.get(slot as usize).is_some_and(|s| s.used && st.written <= s.begins_at)
    }
    /// What the kernel knows of the peer.
    pub fn peer(&self) -> Peer {
        self.st.borrow().io.peer()
    }
    /// Wakes the driver, which writes what waits.
    pub fn wake(&self) {
        if let Some(w) = &self.st.borrow().driver {
            w.wake_by_ref();
        }
    }

    /// Reads, dispatches and writes as far as it goes. `sink` is called without any borrow held.
    pub fn poll(&self, cx: &mut Context<'_>, sink: &mut dyn FnMut(Incoming)) -> Poll<End> {
        self.st.borrow_mut().driver = Some(cx.waker().clone());
        let (mut ended, mut reads, mut full, mut resets) = (None, 0, false, 0);
        while reads < READS {
            while resets < RESETS {
                let event = self.st.borrow_mut().next_event();
                match event {
                    Ok(Some(e)) => {
                        resets += usize::from(matches!(e, Event::Reset { .. }));
                        let incoming = {
                            let mut st = self.st.borrow_mut();
                            st.greeted = true;
                            st.dispatch(e)
                        };
                        if let Some(i) = incoming {
                            sink(i);
                        }
                    }
                    Ok(None) => {
                        let st = &mut *self.st.borrow_mut();
                        st.greeted |= st.fed || st.rx > 0;
                        break;
                    }
                    Err(e) => {
                        self.st.borrow_mut().greeted |= e.goaway;
                        ended = Some(End::Protocol(e));
                        break;
                    }
                }
            }
            if ended.is_some() || resets == RESETS {
                break;
            }
            if self.st.borrow_mut().codec.waiting() > UNREAD {
                full = true;
                break;
            }
            let got = {
                let st = &mut *self.st.borrow_mut();
                st.io.poll_read(cx, &mut st.read)
            };
            match got {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => ended = Some(End::Remote),
                Poll::Ready(Ok(n)) => {
                    self.st.borrow_mut().rx += n as u64;
                    reads += 1;
                    continue;
                }
                Poll::Pending => {}
            }
            break;
        }
        // One attempt to say GOAWAY is enough for a peer that does not read. A host that has closed gets no more requests.
        let deaf = self.st.borrow().client && matches!(ended, Some(End::Remote));
        let written = if deaf { Poll::Pending } else { self.poll_write(cx) };
        if let Some(end) = ended {
            match &end {
                End::Remote => self.close(ResetReason::ConnectionTermination, ""),
                End::Protocol(e) => {
                    if let Some(s) =
                        self.st.borrow_mut().slots.iter_mut().find(|s| s.used && s.id == e.stream)
                        && !e.details.is_empty()
                    {
                        s.reset = Some((ResetReason::ProtocolError, e.details));
                    }
                    self.close(ResetReason::ProtocolError, e.message);
                }
            }
            return Poll::Ready(end);
        }
        if let Poll::Ready(Err(_)) = written {
            self.close(ResetReason::ConnectionTermination, "");
            return Poll::Ready(End::Remote);
        }
        // While output is stuck, the socket wakes this task; once it has left, nothing would.
        let room = full && self.st.borrow_mut().codec.waiting() <= UNREAD;
        if reads == READS || resets == RESETS || room {
            cx.waker().wake_by_ref(); // there may be more to read; others run first
        }
        Poll::Pending
    }

    /// Writes what waits; streams whose windows opened go on first.
    pub fn poll_write(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            let mut st = self.st.borrow_mut();
            st.resume();
            if !st.greeted || !st.codec.wants_write() {
                return Poll::Ready(Ok(()));
            }
            let State { io, codec, tx, written, .. } = &mut *st;
            let out = codec.out();
            let before = out.len();
            let r = io.poll_write(cx, out);
            *tx += (before - out.len()) as u64;
            *written += (before - out.len()) as u64;
            match r {
                Poll::Ready(Ok(())) => {}
                r => return r,
            }
        }
    }

    /// Writes what waits and drops what arrives, as long as that is not more than `most` bytes. Ready when the peer has closed.
    pub fn poll_discard(&self, cx: &mut Context<'_>, most: &mut usize) -> Poll<()> {
        if self.poll_write(cx).is_pending() {
            return Poll::Pending;
        }
        while *most > 0 {
            let st = &mut *self.st.borrow_mut();
            match st.io.poll_read(cx, &mut st.read) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {
                    let n = st.read.len();
                    st.read.consume(n);
                    *most = most.saturating_sub(n);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
    /// Ends every stream with the connection.
    pub fn close(&self, reason: ResetReason, details: &'static str) {
        let mut wake = vec![];
        {
            let mut st = self.st.borrow_mut();
            st.closed = true;
            // The newest stream first, as Envoy ends (and logs) them.
            for s in st.slots.iter_mut().rev().filter(|s| s.used) {
                s.reset.get_or_insert((reason, details));
                wake.extend(s.reader.take());
                wake.extend(s.writer.take());
            }
            wake.extend(st.driver.take());
        }
        wake.into_iter().for_each(Waker::wake);
    }

    /// Client: opens a stream.
    ///
    /// # Errors
    /// The peer takes no more streams.
    pub fn open(&self, head: &RequestHead, end: bool) -> Result<u32, ResetReason> {
        let mut st = self.st.borrow_mut();
        if st.closed {
            return Err(ResetReason::ConnectionTermination);
        }
        let slot = st.new_slot(StreamId(0));
        st.slots[slot as usize].begins_at = st.written + st.codec.waiting() as u64;
        match st.codec.open(head, end, slot) {
            Ok(id) => {
                st.slots[slot as usize].id = id;
                drop(st);
                self.wake();
                Ok(slot)
            }
            Err(_) => {
                st.free_slot(slot);
                Err(ResetReason::LocalRefusedStream)
            }
        }
    }
    /// Server: sends a head.
    pub fn send_response(&self, slot: u32, head: &ResponseHead, end: bool) {
        let mut st = self.st.borrow_mut();
        let id = st.slots[slot as usize].id;
        // A stream that is gone has told its reader so.
        let _ = st.codec.send_response(id, head, end);
        if end {
            st.note(slot);
        }
        drop(st);
        self.wake();
    }
    /// Ready when nothing of this stream waits for a window.
    pub fn poll_ready(&self, slot: u32, cx: &mut Context<'_>) -> Poll<Result<(), ResetReason>> {
        self.poll_writable(slot, cx).map_err(|(reason, _)| reason)
    }
    /// The same, with the details of the reset.
    pub fn poll_writable(
        &self,
        slot: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), (ResetReason, &'static str)>> {
        let s = &mut self.st.borrow_mut().slots[slot as usize];
        if let Some(r) = s.reset {
            return Poll::Ready(Err(r));
        }
        if s.rest.is_empty() && !s.rest_ends {
            return Poll::Ready(Ok(()));
        }
        s.writer = Some(cx.waker().clone());
        Poll::Pending
    }
    /// Sends data; what the windows do not take waits.
    pub fn send_data(&self, slot: u32, mut data: Chunk, end: bool) {
        let mut st = self.st.borrow_mut();
        let id = st.slots[slot as usize].id;
        if st.codec.send_data(id, &mut data, end) == Sent::Wait {
            let s = &mut st.slots[slot as usize];
            (s.rest, s.rest_ends) = (data, end);
        } else if end {
            st.note(slot);
        }
        drop(st);
        self.wake();
    }
    /// Ends the stream's sending side.
    pub fn send_end(&self, slot: u32, trailers: Option<&HeaderMap>) {
        match trailers {
            None => self.send_data(slot, Chunk::default(), true),
            Some(t) => {
                let mut st = self.st.borrow_mut();
                let id = st.slots[slot as usize].id;
                let _ = st.codec.send_trailers(id, t); // as in `send_response`
                st.note(slot);
                drop(st);
                self.wake();
            }
        }
    }
    /// The stream's response heads, client side.
    pub fn poll_head(
        &self,
        slot: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(ResponseHead, bool), ResetReason>> {
        let s = &mut self.st.borrow_mut().slots[slot as usize];
        if let Some(h) = s.heads.pop_front() {
            return Poll::Ready(Ok(h));
        }
        if let Some((r, _)) = s.reset {
            return Poll::Ready(Err(r));
        }
        s.reader = Some(cx.waker().clone());
        Poll::Pending
    }
    /// The stream's next body frame. Reading it opens the windows.
    pub fn poll_frame(&self, slot: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut st = self.st.borrow_mut();
        let State { slots, codec, .. } = &mut *st;
        let s = &mut slots[slot as usize];
        if let Some(c) = s.data.pop() {
            codec.release(s.id, c.len());
            let (write, ended) = (codec.wants_write(), s.ended);
            if ended {
                st.note(slot);
            }
            drop(st);
            if write {
                self.wake();
            }
            return Poll::Ready(Some(Ok(Frame::Data(c))));
        }
        if let Some(t) = s.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::Trailers(t))));
        }
        if s.ended {
            return Poll::Ready(None);
        }
        if let Some((r, _)) = s.reset {
            return Poll::Ready(Some(Err(BodyError::Reset(r))));
        }
        s.reader = Some(cx.waker().clone());
        Poll::Pending
    }
    /// The stream's bytes on the wire.
    pub fn meter(&self, slot: u32) -> Meter {
        let mut st = self.st.borrow_mut();
        st.note(slot);
        st.slots[slot as usize].meter
    }
    /// No frame follows.
    pub fn is_end(&self, slot: u32) -> bool {
        let st = self.st.borrow();
        let s = &st.slots[slot as usize];
        s.ended && s.data.is_empty() && s.trailers.is_none()
    }
    /// Bytes of body that arrived and nobody has read, and whether the peer has ended the stream.
    pub fn unread(&self, slot: u32) -> (u64, bool) {
        let st = self.st.borrow();
        let s = &st.slots[slot as usize];
        (s.data.len() as u64, s.ended)
    }
    /// Ready when the peer has reset the stream.
    pub fn poll_reset(&self, slot: u32, cx: &mut Context<'_>) -> Poll<(ResetReason, &'static str)> {
        let s = &mut self.st.borrow_mut().slots[slot as usize];
        if let Some(r) = s.reset {
            return Poll::Ready(r);
        }
        s.reader = Some(cx.waker().clone());
        Poll::Pending
    }
    /// Why the stream was reset, if it was.
    pub fn reset_of(&self, slot: u32) -> Option<(ResetReason, &'static str)> {
        self.st.borrow().slots[slot as usize].reset
    }
    /// Resets the stream, unless both sides have ended it.
    pub fn reset(&self, slot: u32, code: ErrorCode) {
        let mut st = self.st.borrow_mut();
        let id = st.slots[slot as usize].id;
        st.codec.reset(id, code);
        drop(st);
        self.wake();
    }
    /// The stream is of no more use to us: resets what is not over, frees the slot. True when it was cut short.
    pub fn release(&self, slot: u32, code: ErrorCode) -> bool {
        let mut st = self.st.borrow_mut();
        let State { slots, codec, closed, .. } = &mut *st;
        let s = &mut slots[slot as usize];
        if !s.used {
            return false;
        }
        let mut cut = !*closed && s.reset.is_none() && !s.ended;
        if !*closed {
            if !s.data.is_empty() {
                codec.release(s.id, s.data.len());
            }
            cut |= codec.cut(s.id, code); // nothing is sent when both sides have ended
        }
        st.free_slot(slot);
        drop(st);
        self.wake();
        cut
    }
    /// Streams in use.
    pub fn in_use(&self) -> usize {
        let st = self.st.borrow();
        st.slots.len() - st.free.len()
    }
}

impl State {
    fn next_event(&mut self) -> Result<Option<Event>, ConnError> {
        self.codec.read(&mut self.read)
    }
    fn new_slot(&mut self, id: StreamId) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let s = &mut self.slots[slot as usize];
        (s.id, s.used) = (id, true);
        slot
    }
    fn free_slot(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        s.heads.clear();
        s.data.clear();
        let (heads, data) = (std::mem::take(&mut s.heads), std::mem::take(&mut s.data));
        *s = Slot { heads, data, ..Slot::default() };
        self.free.push(slot);
    }
    fn note(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        if let Some(meter) = self.codec.meter(s.id) {
            s.meter = meter;
        }
    }
    fn slot(&mut self, token: u32, id: StreamId) -> Option<&mut Slot> {
        self.slots.get_mut(token as usize).filter(|s| s.used && s.id == id)
    }
    fn dispatch(&mut self, e: Event) -> Option<Incoming> {
        match e {
            Event::Request { id, head, end } => {
                let slot = self.new_slot(id);
                self.slots[slot as usize].ended = end;
                self.codec.set_token(id, slot);
                return Some(Incoming::Request { slot, head, end });
            }
            Event::Response { id, token, head, end } => {
                if let Some(s) = self.slot(token, id) {
                    s.ended = end;
                    s.heads.push_back((head, end));
                    wake(&mut s.reader);
                    if end {
                        self.note(token);
                    }
                }
            }
            Event::Data { id, token, data, end } => match self.slot(token, id) {
                Some(s) => {
                    s.ended = end;
                    s.data.push(data);
                    wake(&mut s.reader);
                    if end {
                        self.note(token);
                    }
                }
                None => self.codec.release(id, data.len()),
            },
            Event::Trailers { id, token, map } => {
                if let Some(s) = self.slot(token, id) {
                    s.trailers = Some(Box::new(map));
                    s.ended = true;
                    wake(&mut s.reader);
                    self.note(token);
                }
            }
            Event::Reset { id, token, code } => {
                let (reason, details) = match code {
                    ErrorCode::REFUSED_STREAM => (ResetReason::RemoteRefusedStream, details::REMOTE_REFUSE),
                    // Envoy has no words for a peer that resets without an error.
                    ErrorCode::NO_ERROR => (ResetReason::RemoteReset, ""),
                    _ => (ResetReason::RemoteReset, details::REMOTE_RESET),
                };
                self.fail(token, id, reason, details);
            }
            Event::StreamError { token, id, details, begun, code } => {
                if begun {
                    return Some(Incoming::Refused { details });
                }
                let reason = match code {
                    ErrorCode::INTERNAL_ERROR => ResetReason::RemoteReset,
                    _ => ResetReason::ProtocolError,
                };
                self.fail(token, id, reason, details);
            }
            Event::Writable { id, token } => self.resume_one(token, id),
            Event::GoAway { .. } => return Some(Incoming::GoAway),
            Event::Settings => return Some(Incoming::Settings),
            Event::Pong { .. } => self.pong = true,
        }
        None
    }
    fn fail(&mut self, token: u32, id: StreamId, reason: ResetReason, details: &'static str) {
        if let Some(s) = self.slot(token, id) {
            s.reset.get_or_insert((reason, details));
            wake(&mut s.reader);
            wake(&mut s.writer);
            self.note(token);
        }
    }
    fn resume(&mut self) {
        while let Some((id, token)) = self.codec.writable() {
            self.resume_one(token, id);
        }
    }
    fn resume_one(&mut self, token: u32, id: StreamId) {
        let State { slots, codec, .. } = self;
        let Some(s) = slots.get_mut(token as usize).filter(|s| s.used && s.id == id) else { return };
        if s.rest.is_empty() && !s.rest_ends {
            return;
        }
        match codec.send_data(id, &mut s.rest, s.rest_ends) {
            Sent::Wait => {}
            Sent::All | Sent::Gone => {
                s.rest = Chunk::default();
                s.rest_ends = false;
                wake(&mut s.writer);
                self.note(token);
            }
        }
    }
}

fn wake(w: &mut Option<Waker>) {
    if let Some(w) = w.take() {
        w.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    /// A peer that goes on talking after the end is not listened to for ever.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "no wheel turns in this test")]
    async fn what_is_dropped_is_bounded() {
        let (mut client, server) = UnixStream::pair().expect("a pair");
        let mux = Mux::new(Io::Unix(server), ReadBuf::new(), Connection::server(Arc::default()), true);
        let flood = tokio::spawn(async move {
            let mut written = 0;
            while client.write_all(&[0; 1024]).await.is_ok() {
                written += 1024;
            }
            written
        });
        let mut most = 100_000;
        let rest = poll_fn(|cx| mux.poll_discard(cx, &mut most));
        tokio::time::timeout(std::time::Duration::from_millis(300), rest).await.expect_err("it goes on");
        assert_eq!(most, 0);
        drop(mux);
        let written = flood.await.expect("no panic");
        assert!(written < 1_000_000, "{written}: what was dropped, and what the socket holds");
    }
    /// CVE-2023-44487: what is reset at once is taken up in small portions, between which others run.
    #[tokio::test]
    async fn a_burst_of_resets_comes_in_portions() {
        let (mut client, server) = UnixStream::pair().expect("a pair");
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for id in (1..200u8).step_by(2) {
            // HEADERS (:method GET, :scheme http, :path /, :authority a), then RST_STREAM with CANCEL
            bytes.extend([0, 0, 6, 1, 5, 0, 0, 0, id, 0x82, 0x86, 0x84, 0x41, 1, b'a']);
            bytes.extend([0, 0, 4, 3, 0, 0, 0, 0, id, 0, 0, 0, 8]);
        }
        client.write_all(&bytes).await.expect("written");
        let mux = Mux::new(Io::Unix(server), ReadBuf::new(), Connection::server(Arc::default()), false);
        let mut portions = vec![];
        while portions.iter().sum::<usize>() < 100 {
            let mut n = 0;
            poll_fn(|cx| {
                let r = mux.poll(cx, &mut |i| n += usize::from(matches!(i, Incoming::Request { .. })));
                assert!(r.is_pending(), "the connection goes on");
                if n > 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            portions.push(n);
        }
        assert_eq!(portions.iter().sum::<usize>(), 100, "none is lost");
        assert!(portions.iter().all(|n| *n <= RESETS), "{portions:?}");
    }
}
