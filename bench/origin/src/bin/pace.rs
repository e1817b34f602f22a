//! Requests at an even pace: `pace PORT RATE SECONDS CONNECTIONS PATH [NAME: VALUE]...`
//!
//! The k-th request is due at k / RATE after the start and goes out then, on a connection that is idle, whatever became of
//! those before; if none is idle it waits for one, and that wait counts. So a proxy that is slow for a moment is seen to
//! be slow by all requests of that moment. Prints `RESULT requests micros bytes p50 p99 errors`, times in microseconds.

use rustix::event::{Timespec, epoll};
use std::collections::VecDeque;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long answers may take after the last request.
const GRACE: Duration = Duration::from_secs(2);

struct Conn {
    stream: TcpStream,
    /// When its request was due, or went out; `None`: it is idle.
    asked: Option<Instant>,
    input: Vec<u8>,
}

#[derive(Default)]
struct Outcome {
    micros: Vec<u64>,
    bytes: usize,
    errors: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, rate, seconds, connections, path, headers @ ..] = &args[..] else {
        return Err("usage: pace PORT RATE SECONDS CONNECTIONS PATH [NAME: VALUE]...".into());
    };
    let (port, rate, seconds): (u16, u64, u64) = (port.parse()?, rate.parse()?, seconds.parse()?);
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
    headers.iter().for_each(|h| request += &format!("{h}\r\n"));
    request += "\r\n";

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut conns = Vec::new();
    for at in 0..connections.parse::<u64>()? {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(at), epoll::EventFlags::IN)?;
        conns.push(Conn { stream, asked: None, input: Vec::new() });
    }
    let mut idle: VecDeque<usize> = (0..conns.len()).collect();
    let mut outcome = Outcome::default();
    let mut events = Vec::with_capacity(conns.len().max(1));
    let (start, total) = (Instant::now(), rate * seconds);
    let due = |k: u64| start + Duration::from_nanos(k * 1_000_000_000 / rate);
    let mut sent = 0;
    while outcome.micros.len() + outcome.errors < total as usize {
        let now = Instant::now();
        if now > due(total) + GRACE {
            break;
        }
        while sent < total && due(sent) <= now {
            let Some(at) = idle.pop_front() else { break };
            // One that went out in time is not charged for the clock of this program.
            let late = now - due(sent) > Duration::from_nanos(1_000_000_000 / rate);
            conns[at].asked = Some(if late { due(sent) } else { Instant::now() });
            conns[at].stream.write_all(request.as_bytes())?;
            sent += 1;
        }
        let until = if sent < total { due(sent) } else { due(total) + GRACE };
        // When all connections are busy, only an answer changes anything.
        let wait = if idle.is_empty() { GRACE } else { until.saturating_duration_since(Instant::now()) };
        events.clear();
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
        for event in &events {
            let at = event.data.u64() as usize;
            if conns[at].answered(&mut outcome)? {
                idle.push_back(at);
            }
        }
    }
    let times = &mut outcome.micros;
    times.sort_unstable();
    let rank = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0);
    let errors = outcome.errors + (total as usize - times.len() - outcome.errors);
    let micros = start.elapsed().as_micros();
    println!("RESULT {} {micros} {} {} {} {errors}", times.len(), outcome.bytes, rank(0.5), rank(0.99));
    Ok(())
}

impl Conn {
    /// Reads what is there. Whether that was the end of the answer, and the connection is idle again.
    fn answered(&mut self, outcome: &mut Outcome) -> Result<bool, Box<dyn Error>> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the proxy closed a connection".into()),
            Ok(size) => self.input.extend_from_slice(&buffer[..size]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let Some(head) = memchr::memmem::find(&self.input, b"\r\n\r\n") else { return Ok(false) };
        let text = std::str::from_utf8(&self.input[..head])?.to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.ok_or("an answer without a length")?.trim().parse()?;
        if self.input.len() < head + 4 + length {
            return Ok(false);
        }
        let asked = self.asked.take().ok_or("an answer that nobody asked for")?;
        outcome.bytes += self.input.len();
        match text.split(' ').nth(1) {
            Some("200") => outcome.micros.push(asked.elapsed().as_micros() as u64),
            _ => outcome.errors += 1,
        }
        self.input.clear();
        Ok(true)
    }
}
