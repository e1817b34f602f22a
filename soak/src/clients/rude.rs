//! Clients without manners: half requests, garbage, cuts at any byte, answers never read.

use super::{Tally, Target};
use crate::Result;
use crate::pattern::Dice;
use socket2::SockRef;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub async fn run(t: Arc<Tally>, to: Target, seed: u64) {
    let mut dice = Dice::new(seed);
    while !t.over() {
        // Whatever comes of it is right, as long as the others do well.
        let _ = session(&to, &mut dice).await;
        tokio::time::sleep(Duration::from_millis(dice.below(10))).await;
    }
}

async fn session(to: &Target, dice: &mut Dice) -> Result<()> {
    let mut io = TcpStream::connect(to.addr).await?;
    let whole: Vec<u8> = match dice.below(6) {
        0 => (0..dice.below(300)).map(|_| dice.roll() as u8).collect(),
        1 => format!(
            "POST /h1/echo HTTP/1.1\r\nhost: a\r\nx-length: 5000\r\ncontent-length: 5000\r\n\r\n{}",
            "x".repeat(3000)
        )
        .into(),
        2 => b"POST /h2/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"
            .into(),
        3 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x09\0\0\0\0\x01garbage".into(),
        4 => b"GET /h1/bytes/900000 HTTP/1.1\r\nhost: a\r\n\r\n".repeat(dice.below(5) as usize + 1),
        _ => {
            b"GET /h2/ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly".into()
        }
    };
    let upto = if dice.one_in(2) { whole.len() } else { dice.below(whole.len() as u64 + 1) as usize };
    io.write_all(&whole[..upto]).await?;
    match dice.below(4) {
        0 => {}
        1 => tokio::time::sleep(Duration::from_millis(dice.below(300))).await,
        2 => {
            let mut some = vec![0; dice.below(20_000) as usize + 1];
            let _ = tokio::time::timeout(Duration::from_millis(200), io.read_exact(&mut some)).await;
        }
        _ => {
            io.shutdown().await?;
            let _ = tokio::time::timeout(Duration::from_millis(200), io.read(&mut [0; 1000])).await;
        }
    }
    if dice.one_in(2) {
        // RST instead of FIN.
        SockRef::from(&io).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}
