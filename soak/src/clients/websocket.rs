//! WebSocket: messages that come back.

use super::{Tally, Target};
use crate::Result;
use crate::pattern::{Dice, pieces};
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

pub async fn run(t: Arc<Tally>, to: Target, seed: u64) {
    let mut dice = Dice::new(seed);
    while !t.over() {
        if let Err(e) = session(&t, &to, &mut dice).await {
            t.odd(format!("websocket: {e}"));
        }
    }
}

async fn session(t: &Tally, to: &Target, dice: &mut Dice) -> Result<()> {
    let io = to.connect("http/1.1").await?;
    let (mut ws, _) = client_async("ws://soak/h1/ws", io).await?;
    for _ in 0..dice.below(100) {
        if t.over() {
            break;
        }
        let len = dice.below(30_000) as usize;
        let sent: Vec<u8> = pieces(dice.roll(), len).flatten().collect();
        ws.send(Message::binary(sent.clone())).await?;
        match ws.next().await {
            Some(Ok(Message::Binary(back))) if back == sent => t.good(),
            Some(Ok(_)) => t.wrong("websocket"),
            Some(Err(e)) => return Err(e.into()),
            None => return Err("closed".into()),
        }
    }
    // One in four just leaves.
    if !dice.one_in(4) {
        ws.close(None).await?;
        while let Some(Ok(_)) = ws.next().await {}
    }
    Ok(())
}
