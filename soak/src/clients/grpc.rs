//! gRPC: bidirectional streams whose messages come back one by one, with a status in the trailers.

use super::{Tally, Target};
use crate::Result;
use crate::pattern::{Dice, pieces};
use crate::pipe::{Pipe, pipe};
use bytes::{BufMut, BytesMut};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;

pub async fn run(t: Arc<Tally>, to: Target, seed: u64) {
    let mut dice = Dice::new(seed);
    while !t.over() {
        if let Err(e) = session(&t, &to, &mut dice).await {
            t.odd(format!("grpc: {e}"));
        }
    }
}

async fn session(t: &Tally, to: &Target, dice: &mut Dice) -> Result<()> {
    let io = TokioIo::new(to.connect("h2").await?);
    let (mut send, conn) = http2::handshake(TokioExecutor::new(), io).await?;
    let task = tokio::spawn(conn);
    for _ in 0..dice.below(50) {
        if t.over() {
            break;
        }
        talk(t, &mut send, dice).await?;
    }
    task.abort();
    Ok(())
}

async fn talk(t: &Tally, send: &mut http2::SendRequest<Pipe>, dice: &mut Dice) -> Result<()> {
    let (mut tx, body) = pipe();
    let rq = Request::post("http://soak/h2/soak.Echo/Talk")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    send.ready().await?;
    let mut r = send.send_request(rq).await?;
    if r.status() != 200 {
        t.odd(format!("grpc: {}", r.status()));
        return Ok(());
    }
    let cancelled = dice.one_in(8);
    for _ in 0..dice.below(20) {
        let len = dice.below(5000) as usize;
        let mut message = BytesMut::with_capacity(len + 5);
        message.put_u8(0);
        message.put_u32(len as u32);
        pieces(dice.roll(), len).for_each(|p| message.put(p));
        let message = message.freeze();
        tx.send_data(message.clone()).await?;
        let mut back = BytesMut::new();
        while back.len() < message.len() {
            let Some(frame) = r.frame().await else { return Err("ended early".into()) };
            if let Ok(data) = frame?.into_data() {
                back.put(data);
            }
        }
        if back == message { t.good() } else { t.wrong("grpc") }
    }
    if cancelled {
        return Ok(());
    }
    drop(tx);
    let end = r.into_body().collect().await?;
    let status = end.trailers().and_then(|h| h.get("grpc-status")).cloned();
    if status.is_none_or(|s| s != "0") {
        t.odd(format!("grpc trailers: {:?}", end.trailers()));
    }
    Ok(())
}
