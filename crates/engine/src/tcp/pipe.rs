//! Pipes, through which the kernel moves bytes from one socket to another without showing them to us (`splice(2)`).
//!
//! A pipe is lent to one direction of a connection while much moves there, and goes back empty. Each worker keeps a few.

use crate::io::Io;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// Bytes that a pipe takes, if the system lets us have so many: as many as may wait when they are copied.
pub const ROOM: usize = 128 * 1024;
/// Empty pipes that a worker keeps.
const KEEP: usize = 16;
/// Pipes that a worker has, lent ones too: each is two descriptors, and its pages count against the user's limit.
const MOST: usize = 64;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { empty: Vec::new(), made: 0 }) };
}

struct Pool {
    empty: Vec<Ends>,
    /// That exist, here or lent.
    made: usize,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe that is lent; dropping it gives it back.
pub struct Pipe {
    /// There until it is dropped.
    ends: Option<Ends>,
    len: usize,
}

impl Pipe {
    /// An empty one. `None` when this worker has too many, or the system has none: bytes can be copied as well.
    pub fn take() -> Option<Pipe> {
        POOL.with_borrow_mut(|p| {
            let ends = match p.empty.pop() {
                Some(ends) => ends,
                None if p.made >= MOST => return None,
                None => {
                    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                    // Less does as well.
                    let _ = fcntl_setpipe_size(&write, ROOM);
                    p.made += 1;
                    Ends { read, write }
                }
            };
            Some(Pipe { ends: Some(ends), len: 0 })
        })
    }
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Moves into the empty pipe what has come in `from`. `Ready(Ok(0))` is end of file.
    ///
    /// In an empty pipe there is room, so "try again" can only mean that nothing has come.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, from: &Io) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "else nobody could say who is to be waited for");
        let Some(Ends { write, .. }) = &self.ends else { return Poll::Pending };
        loop {
            ready!(from.poll_ready(cx, Interest::READABLE))?;
            let r = from.try_io(Interest::READABLE, |s| moved(s, write.as_fd(), ROOM));
            match r {
                Ok(n) => {
                    self.len = n;
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
    /// Moves what is in it to `to`, until it is empty.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Io) -> Poll<io::Result<()>> {
        let Some(Ends { read, .. }) = &self.ends else { return Poll::Pending };
        while self.len > 0 {
            ready!(to.poll_ready(cx, Interest::WRITABLE))?;
            match to.try_io(Interest::WRITABLE, |s| moved(read.as_fd(), s, self.len)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => self.len -= n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take();
        let empty = self.is_empty();
        // The thread may be ending: then they are closed.
        let _ = POOL.try_with(|p| {
            let mut p = p.borrow_mut();
            if empty && p.empty.len() < KEEP {
                p.empty.extend(ends);
            } else {
                p.made -= 1;
            }
        });
    }
}

fn moved(from: std::os::fd::BorrowedFd<'_>, to: std::os::fd::BorrowedFd<'_>, n: usize) -> io::Result<usize> {
    loop {
        match splice(from, None, to, None, n, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Err(Errno::INTR) => {}
            r => return Ok(r?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    fn pair() -> (Io, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Io::Unix(ours), theirs)
    }
    fn pool() -> (usize, usize) {
        POOL.with_borrow(|p| (p.empty.len(), p.made))
    }

    #[tokio::test]
    async fn bytes_pass_and_the_end_is_seen() {
        let ((from, mut a), (to, mut b)) = (pair(), pair());
        let mut pipe = Pipe::take().expect("a pipe");
        a.write_all(b"hello").await.expect("written");
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &from)).await.expect("filled"), 5);
        assert_eq!(pipe.len(), 5);
        poll_fn(|cx| pipe.poll_drain(cx, &to)).await.expect("drained");
        let mut got = [0; 5];
        b.read_exact(&mut got).await.expect("read");
        assert_eq!((&got, pipe.is_empty()), (b"hello", true));
        // Nothing has come: somebody is woken when it does.
        assert!(poll_fn(|cx| Poll::Ready(pipe.poll_fill(cx, &from).is_pending())).await);
        let (filled, _) = tokio::join!(poll_fn(|cx| pipe.poll_fill(cx, &from)), async {
            a.write_all(b"x").await.expect("written");
        });
        assert_eq!(filled.expect("filled"), 1);
        poll_fn(|cx| pipe.poll_drain(cx, &to)).await.expect("drained");
        drop(a);
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &from)).await.expect("the end"), 0);
        // Who is gone is not written to: an error, not a signal.
        let (from, mut a) = pair();
        a.write_all(b"hello").await.expect("written");
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &from)).await.expect("filled"), 5);
        drop(b);
        let e = poll_fn(|cx| pipe.poll_drain(cx, &to)).await.expect_err("nobody is there");
        assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_worker_keeps_few_and_none_with_bytes_in_it() {
        // A thread of its own has a pool of its own.
        let (from, mut a) = pair();
        let all: Vec<_> = (0..KEEP + 3).map(|_| Pipe::take().expect("a pipe")).collect();
        assert_eq!(pool(), (0, KEEP + 3));
        drop(all);
        assert_eq!(pool(), (KEEP, KEEP));
        let mut pipe = Pipe::take().expect("a pipe");
        assert_eq!(pool(), (KEEP - 1, KEEP));
        a.write_all(b"secret").await.expect("written");
        poll_fn(|cx| pipe.poll_fill(cx, &from)).await.expect("filled");
        drop(pipe);
        assert_eq!(pool(), (KEEP - 1, KEEP - 1));
        let lent: Vec<_> = std::iter::from_fn(Pipe::take).collect();
        assert_eq!((lent.len(), pool()), (MOST, (0, MOST)));
    }
}
