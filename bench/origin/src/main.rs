//! The upstream of the benchmarks: `bench-origin PORT`.
//!
//! It listens on this port of 127.0.0.1 to 127.0.0.10: ten hosts, for who needs as many.
//!
//! One thread, one epoll loop, answers held ready in memory, so that it is never the bottleneck. Speaks HTTP/1.1 and, by
//! prior knowledge, HTTP/2 on the same port: 1 KiB for any path, over HTTP/1.1 1 MiB for paths that begin with `/big`.

mod conn;
mod h1;
mod h2;

use conn::Conn;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;

/// Tokens from here on are listeners.
const LISTENERS: usize = usize::MAX - HOSTS as usize;
const HOSTS: u8 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: bench-origin PORT")?.parse()?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(512);
    let mut listeners = Vec::new();
    for host in 1..=HOSTS {
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, host], port)))?;
        let token = Token(LISTENERS + listeners.len());
        poll.registry().register(&mut listener, token, Interest::READABLE)?;
        listeners.push(listener);
    }

    let answers = h1::Answers::new();
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            return Err(error.into());
        }
        for event in &events {
            let index = event.token().0;
            if index >= LISTENERS {
                accept(&listeners[index - LISTENERS], &poll, &mut conns, &mut free)?;
                continue;
            }
            let Some(conn) = conns.get_mut(index).and_then(Option::as_mut) else { continue };
            if !conn.ready(&answers) {
                conns[index] = None;
                free.push(index);
            }
        }
    }
}

/// Takes all waiting connections.
fn accept(
    listener: &TcpListener,
    poll: &Poll,
    conns: &mut Vec<Option<Conn>>,
    free: &mut Vec<usize>,
) -> Result<(), Box<dyn Error>> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => continue,
        };
        stream.set_nodelay(true)?;
        let index = free.pop().unwrap_or_else(|| {
            conns.push(None);
            conns.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        conns[index] = Some(Conn::new(stream));
    }
}
