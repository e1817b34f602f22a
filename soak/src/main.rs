//! Long runs against a real Nuncio process: mixed traffic, attacks, hosts that restart. `soak --help` says which.
//!
//! [`proxy`] starts Nuncio and reads its counters, memory and descriptors; [`origin`] is the host behind it; [`pattern`] makes
//! bodies whose every byte is known; [`clients`] are those who talk to it. [`mixed`], [`attack`], [`restart`] and [`xds`] are the runs.

mod attack;
mod clients;
mod mixed;
mod origin;
mod pattern;
mod pipe;
mod proxy;
mod restart;
mod xds;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// What went wrong, for people.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const HELP: &str = "\
Long runs against a real Nuncio. Each ends by itself, prints what it measured, and exits with 1 if something did not hold.

  soak [--bin PATH] mixed [MINUTES]      HTTP/1, HTTP/2, TLS, WebSocket and gRPC, slow and rude peers (10 minutes)
  soak [--bin PATH] attack [NAME]...     slowloris, tiny-headers, continuation, rapid-reset, never-reads (all, some minutes)
  soak [--bin PATH] restart [SECONDS]    three hosts are killed and started again under load, four policies (120 s each)
  soak [--bin PATH] xds [UPDATES]        a control plane changes everything under load, by delta and as state of the world (1000)
  soak origin PORT                       a host alone

  --bin PATH   the binary to test (target/release/nuncio)
";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut bin = "target/release/nuncio".to_owned();
    if args.first().is_some_and(|a| a == "--bin") && args.len() > 1 {
        bin = args.remove(1);
        args.remove(0);
    }
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("mixed") => match number(rest, 10) {
            Ok(minutes) => mixed::run(&bin, minutes).await,
            Err(e) => Err(e),
        },
        Some("attack") => attack::run(&bin, rest).await,
        Some("restart") => match number(rest, 120) {
            Ok(seconds) => restart::run(&bin, Duration::from_secs(seconds)).await,
            Err(e) => Err(e),
        },
        Some("xds") => match number(rest, 1000) {
            Ok(updates) => xds::run(&bin, updates as usize).await,
            Err(e) => Err(e),
        },
        Some("origin") => match number(rest, 0) {
            Ok(port) => origin::alone(port as u16).await,
            Err(e) => Err(e),
        },
        _ => {
            print!("{HELP}");
            return ExitCode::from(if args.first().is_some_and(|a| a == "--help") { 0 } else { 2 });
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("FAILED: {e}");
            ExitCode::FAILURE
        }
    }
}

fn number(rest: &[String], default: u64) -> Result<u64> {
    rest.first().map_or(Ok(default), |s| s.parse().map_err(|_| format!("{s} is no number").into()))
}
