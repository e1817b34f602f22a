//! Fake hosts. A host runs a script for every connection it accepts, and remembers what happened to it.

use crate::conn::{Conn, Message};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A host on a free port of loopback; stops listening when dropped.
pub struct Upstream {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Rc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    accepted: Cell<usize>,
    open: Cell<usize>,
    seen: RefCell<Vec<Message>>,
}

/// Counts a connection while its script runs.
struct Open(Rc<State>);
impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl Upstream {
    /// Runs `script` for every connection, with the connection's number, from 0. When it ends the connection closes.
    pub async fn tcp<F>(script: impl Fn(TcpStream, usize) -> F + 'static) -> Upstream
    where
        F: Future<Output = ()> + 'static,
    {
        let l = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = l.local_addr().expect("an address");
        let state = Rc::new(State::default());
        let s = state.clone();
        let task = tokio::task::spawn_local(async move {
            while let Ok((io, _)) = l.accept().await {
                let n = s.accepted.get();
                s.accepted.set(n + 1);
                s.open.set(s.open.get() + 1);
                let (run, open) = (script(io, n), Open(s.clone()));
                tokio::task::spawn_local(async move {
                    run.await;
                    drop(open);
                });
            }
        });
        Upstream { addr, state, task }
    }
    /// As [`tcp`](Self::tcp), on an HTTP/1 connection.
    pub async fn h1<F>(script: impl Fn(Conn, usize) -> F + 'static) -> Upstream
    where
        F: Future<Output = ()> + 'static,
    {
        Upstream::tcp(move |io, n| script(Conn::tcp(io), n)).await
    }
    /// Answers every request with the bytes `answer` makes of it, and keeps the connection open.
    pub async fn answering(answer: impl Fn(&Message) -> Vec<u8> + 'static) -> Upstream {
        let (answer, seen) = (Rc::new(answer), Rc::new(RefCell::new(None::<Rc<State>>)));
        let s = seen.clone();
        let up = Upstream::h1(move |mut c, _| {
            let (answer, seen) = (answer.clone(), s.clone());
            async move {
                while let Some(m) = c.request().await {
                    let bytes = answer(&m);
                    let state = seen.borrow().clone();
                    if let Some(state) = state {
                        state.seen.borrow_mut().push(m);
                    }
                    c.send(bytes).await;
                }
            }
        })
        .await;
        *seen.borrow_mut() = Some(up.state.clone());
        up
    }
    /// Answers every request with `200` and this body.
    pub async fn ok(body: &str) -> Upstream {
        let bytes = ok(body.as_bytes());
        Upstream::answering(move |_| bytes.clone()).await
    }
    /// An address where nobody listens.
    pub fn refusing() -> SocketAddr {
        let l = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        l.local_addr().expect("an address")
    }
    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.get()
    }
    /// Connections whose script still runs.
    pub fn open(&self) -> usize {
        self.state.open.get()
    }
    /// Requests that [`answering`](Self::answering) has answered.
    pub fn seen(&self) -> Vec<Message> {
        self.state.seen.borrow().clone()
    }
    /// Waits until this many scripts run.
    ///
    /// # Panics
    /// They do not.
    pub async fn wait_open(&self, n: usize) {
        let began = Instant::now();
        while self.open() != n {
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{} connections are open, not {n}",
                self.open()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A `200` with a `content-length`.
pub fn ok(body: &[u8]) -> Vec<u8> {
    let mut m = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    m.extend_from_slice(body);
    m
}
