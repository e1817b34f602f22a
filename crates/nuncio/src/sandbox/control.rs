//! `nuncio sandbox scale|status|stop`: one line over a Unix socket, an answer of some lines, the end.
//!
//! The first line of an answer is `ok` or `error`, the others are for the user.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Failure, args, run_dir, say};

/// Longest request line and longest answer.
const MAX_REQUEST: u64 = 1024;
const MAX_ANSWER: u64 = 1 << 20;
/// For one exchange, on both sides.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What a running sandbox is asked to do.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// New counts of instances by service.
    Scale(Vec<(String, u8)>),
    Status,
    Stop,
}

/// Lines for the user, or why it did not work.
type Answer = Result<Vec<String>, Failure>;

/// A request with the place for its answer.
pub(super) type Pending = (Request, oneshot::Sender<Answer>);

impl Request {
    fn read(line: &str) -> Result<Request, Failure> {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("scale") => words.map(args::parse_scale).collect::<Result<_, _>>().map(Request::Scale),
            Some("status") => Ok(Request::Status),
            Some("stop") => Ok(Request::Stop),
            _ => Err(format!("not understood: {line:?}")),
        }
    }
}

/// Listens on `socket` until the set is dropped; requests come out of the channel.
///
/// # Errors
/// When the socket cannot be made.
pub(super) fn listen(socket: &Path) -> Result<(mpsc::Receiver<Pending>, JoinSet<()>), Failure> {
    let listener = UnixListener::bind(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    let (sender, receiver) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // One request at a time: they change the same things.
        loop {
            match listener.accept().await {
                // A client that breaks off has lost only its own answer.
                Ok((stream, _)) => {
                    let _ = tokio::time::timeout(TIMEOUT, serve(stream, &sender)).await;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    Ok((receiver, tasks))
}

async fn serve(mut stream: UnixStream, requests: &mpsc::Sender<Pending>) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line).await?;
    if line.is_empty() {
        return Ok(()); // somebody who only looked whether we are here
    }
    let answer = match Request::read(&line) {
        Err(why) => Err(why),
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            let gone = || Err("the sandbox is stopping".to_string());
            match requests.send((request, answer)).await {
                Ok(()) => answered.await.unwrap_or_else(|_| gone()),
                Err(_) => gone(),
            }
        }
    };
    let text = match answer {
        Ok(lines) => format!("ok\n{}\n", lines.join("\n")),
        Err(why) => format!("error\n{why}\n"),
    };
    write.write_all(text.as_bytes()).await
}

/// Sends `request` to the running sandbox and prints its answer.
///
/// # Errors
/// When no sandbox runs, or it says no.
pub(super) async fn ask(request: String, base_port: Option<u16>) -> Result<(), Failure> {
    let socket = run_dir::find(base_port)?;
    let outcome = tokio::time::timeout(TIMEOUT, exchange(&socket, &request)).await;
    let answer = outcome
        .map_err(|_| format!("the sandbox did not answer within {} s", TIMEOUT.as_secs()))?
        .map_err(|e| format!("{}: {e}", socket.display()))?;
    match answer.split_once('\n') {
        Some(("ok", text)) => {
            say(text.trim_end());
            Ok(())
        }
        Some((_, why)) => Err(why.trim_end().to_string()),
        None => Err("the sandbox closed the connection without an answer".into()),
    }
}

async fn exchange(socket: &Path, request: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let scale = Request::Scale(vec![("service1".into(), 3), ("service2".into(), 0)]);
        assert_eq!(Request::read("scale service1=3 service2=0\n"), Ok(scale));
        assert_eq!(Request::read("status\n"), Ok(Request::Status));
        assert_eq!(Request::read("stop\n"), Ok(Request::Stop));
        assert!(Request::read("scale service9=3\n").is_err());
        assert!(Request::read("\n").is_err());
    }

    #[tokio::test]
    async fn question_and_answer() {
        let socket = std::env::temp_dir().join(format!("nuncio-control-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let (mut requests, _tasks) = listen(&socket).expect("listening");
        let sandbox = tokio::spawn(async move {
            let (request, answer) = requests.recv().await.expect("a request");
            answer.send(Ok(vec!["a".into(), "b".into()])).expect("somebody waits");
            request
        });
        assert_eq!(exchange(&socket, "status").await.expect("an answer"), "ok\na\nb\n");
        assert_eq!(sandbox.await.expect("no panic"), Request::Status);
        // The receiver is gone.
        assert_eq!(exchange(&socket, "stop").await.expect("an answer"), "error\nthe sandbox is stopping\n");
        let refused = exchange(&socket, "scale service9=1").await.expect("an answer");
        assert!(refused.starts_with("error\nno such service"), "{refused}");
        std::fs::remove_file(&socket).expect("removed");
    }
}
