//! A body that a task makes while it is sent. (The channel of the usual library loses the last frame when its sender
//! ends on another thread between two looks of the receiver.)

use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

pub struct Sender(mpsc::Sender<io::Result<Frame<Bytes>>>);
pub struct Pipe(mpsc::Receiver<io::Result<Frame<Bytes>>>);

/// Two frames may wait.
pub fn pipe() -> (Sender, Pipe) {
    let (tx, rx) = mpsc::channel(2);
    (Sender(tx), Pipe(rx))
}

impl Sender {
    /// # Errors
    /// Nobody reads any more.
    pub async fn send(&mut self, frame: Frame<Bytes>) -> Result<(), io::Error> {
        self.0.send(Ok(frame)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    pub async fn send_data(&mut self, data: Bytes) -> Result<(), io::Error> {
        self.send(Frame::data(data)).await
    }

    /// Ends the body with an error.
    pub async fn abort(self, why: &str) {
        let _ = self.0.send(Err(io::Error::other(why.to_owned()))).await;
    }
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}
