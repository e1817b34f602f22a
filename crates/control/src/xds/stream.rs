//! Keeps a stream to a control plane open for a [`Mux`], over our own clusters.

use super::mux::{Mux, far};
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::grpc_service::TargetSpecifier;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::grpc::{Client, Status};
use nuncio_core::{log, rng};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How a stream is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// `rate_limit_settings`: most requests at once, and how many come back each second.
    pub rate: Option<(f64, f64)>,
    /// Waits between two attempts, at random up to the first, then up to twice as much, up to the second.
    pub back_off: (Duration, Duration),
}

impl Rules {
    /// Those of a source.
    pub fn new(c: &core::ApiConfigSource) -> Rules {
        let rate = c.rate_limit_settings.as_ref().map(|r| {
            let most = r.max_tokens.unwrap_or(100);
            (f64::from(most.max(1)), r.fill_rate.unwrap_or(10.0).max(0.01))
        });
        let time = |d: Option<prost_types::Duration>| d.and_then(|d| Duration::try_from(d).ok());
        let policy = c.grpc_services.first().and_then(|s| match &s.target_specifier {
            Some(TargetSpecifier::EnvoyGrpc(e)) => e.retry_policy.as_deref(),
            _ => None,
        });
        let back_off = policy.and_then(|p| p.retry_back_off.as_ref());
        let base = back_off.and_then(|b| time(b.base_interval)).unwrap_or(Duration::from_millis(500));
        let most = back_off.and_then(|b| time(b.max_interval));
        let most = most.unwrap_or(if back_off.is_some() { base * 10 } else { Duration::from_secs(30) });
        Rules { rate, back_off: (base, most.max(base)) }
    }
}

/// Tokens that come back with time.
struct Bucket {
    most: f64,
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new((most, rate): (f64, f64)) -> Bucket {
        Bucket { most, rate, tokens: most, at: clock::now() }
    }
    /// Takes one, or says how long to wait.
    fn take(&mut self) -> Result<(), Duration> {
        let now = clock::now();
        let passed = now.duration_since(self.at).as_secs_f64();
        (self.tokens, self.at) = ((self.tokens + passed * self.rate).min(self.most), now);
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64(((1.0 - self.tokens) / self.rate).min(3600.0)));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// Keeps the stream open, for ever.
pub async fn run(mux: Rc<Mux>, client: Client, method: String, rules: Rules) {
    let mut failures = 0;
    let mut said: Option<u32> = None;
    let mut bucket = rules.rate.map(Bucket::new);
    loop {
        let (status, heard) = one(&mux, &client, &method, bucket.as_mut()).await;
        mux.disconnected();
        if heard {
            (failures, said) = (0, None);
        }
        let name = method.rsplit('/').next().unwrap_or(&method);
        let line = format_args!("{name} gRPC config stream to {} closed: {status}", client.destination())
            .to_string();
        match said == Some(status.code) {
            true => log!(Config, Debug, "{line}"),
            false => log!(Config, Warning, "{line}"),
        }
        said = Some(status.code);
        let (base, most) = rules.back_off;
        let bound = base.saturating_mul(1 << failures.min(20)).min(most);
        failures += 1;
        let wait = Duration::from_millis(rng::below((bound.as_millis() as u64).max(1)));
        clock::sleep(TimerKind::Other, wait).await;
    }
}

/// One stream: how it ended, and whether anything came.
async fn one(mux: &Mux, client: &Client, method: &str, mut bucket: Option<&mut Bucket>) -> (Status, bool) {
    let mut stream = client.open(method, None, None);
    mux.connected();
    let mut heard = false;
    loop {
        let mut pause = far();
        while mux.pending() > 0 && !stream.sender.is_full() {
            if let Some(Err(wait)) = bucket.as_mut().map(|b| b.take()) {
                mux.stats.rate_limit_enforced().inc();
                pause = wait;
                break;
            }
            let Some(request) = mux.request() else { break };
            stream.sender.send(request);
        }
        mux.stats.pending_requests().set(mux.pending() as u64);
        let end = mux.next_end().map_or(far(), |end| end.saturating_duration_since(clock::now()));
        tokio::select! {
            m = stream.receiver.message() => match m {
                Ok(bytes) => {
                    heard = true;
                    if let Err(e) = mux.response(bytes).await {
                        return (Status::new(nuncio_core::grpc::code::INTERNAL, e), heard);
                    }
                }
                Err(status) => return (status, heard),
            },
            () = mux.wake.notified() => {}
            () = stream.sender.room(), if stream.sender.is_full() => {}
            () = clock::sleep(TimerKind::Other, pause) => {}
            () = clock::sleep(TimerKind::Other, end) => mux.expire(),
        }
    }
}
