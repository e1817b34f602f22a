//! HTTP/2: some requests at once on a connection, checked.

use super::{Tally, Target, h1};
use crate::Result;
use crate::pattern::Dice;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use std::time::Duration;

/// Streams at once.
const STREAMS: usize = 8;

/// Asks until the end; streams are reset now and then, and connections end with streams on them.
pub async fn run(t: Arc<Tally>, to: Target, seed: u64) {
    let mut dice = Dice::new(seed);
    while !t.over() {
        if let Err(e) = session(&t, &to, &mut dice).await {
            t.odd(format!("h2: {e}"));
        }
    }
}

async fn session(t: &Arc<Tally>, to: &Target, dice: &mut Dice) -> Result<()> {
    let io = TokioIo::new(to.connect("h2").await?);
    let (send, conn) = http2::handshake(TokioExecutor::new(), io).await?;
    let task = tokio::spawn(conn);
    let count = dice.below(200);
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let (t, mut send, mut dice) = (t.clone(), send.clone(), Dice::new(dice.roll()));
            tokio::spawn(async move {
                for _ in 0..count {
                    if t.over() || send.ready().await.is_err() {
                        return Ok(());
                    }
                    let (rq, wanted) = h1::ask(&mut dice, "http://soak")?.split();
                    if dice.one_in(40) {
                        // Reset by dropping.
                        let limit = Duration::from_millis(dice.below(5));
                        let _ = tokio::time::timeout(limit, send.send_request(rq)).await;
                        continue;
                    }
                    let r = match send.send_request(rq).await {
                        Ok(r) => r,
                        Err(e) => return Err(format!("{}: {e:?}", wanted.what()).into()),
                    };
                    wanted.check(&t, r, dice.one_in(50)).await;
                }
                Result::Ok(())
            })
        })
        .collect();
    if dice.one_in(10) {
        // The whole connection is cut, whatever runs on it.
        tokio::time::sleep(Duration::from_millis(dice.below(200))).await;
        task.abort();
        for s in streams {
            let _ = s.await;
        }
        return Ok(());
    }
    for s in streams {
        s.await??;
    }
    task.abort();
    Ok(())
}
