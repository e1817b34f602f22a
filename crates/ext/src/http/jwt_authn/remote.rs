//! Keys that are fetched: by the first request of a worker that needs them, or ahead of all requests (`async_fetch`).

use super::JwtStats;
use super::jwks::Jwks;
use super::status::Status;
use crate::config::millis;
use nuncio_api::envoy::config::core::v3::http_uri::HttpUpstreamType;
use nuncio_api::envoy::extensions::filters::http::jwt_authn::v3 as pb;
use nuncio_core::body::Body;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::filter::BuildCx;
use nuncio_core::upstreams::{CallOptions, ClientOptions, HttpClient};
use nuncio_core::worker::{self, Background};
use nuncio_core::{BuildError, BuildResult, log};
use nuncio_wire::{RequestHead, name};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Keys that are longer than this are refused.
const MOST_KEYS: usize = 1 << 20;

/// Keys that are fetched ahead are fetched again so long before they are too old.
const AHEAD: Duration = Duration::from_secs(5);

/// A compiled `RemoteJwks`.
pub struct Remote {
    /// Tells it from all others, on every worker.
    id: u64,
    source: Source,
    keep: Duration,
    ahead: Option<Arc<Ahead>>,
    _fetching: Option<Background>,
}

/// Where keys are.
#[derive(Clone)]
struct Source {
    uri: String,
    client: Arc<dyn HttpClient>,
    authority: String,
    path: String,
    timeout: Option<Duration>,
}

/// What main has fetched.
#[derive(Default)]
struct Ahead {
    /// Counts what was fetched; workers look at nothing else unless it has grown.
    generation: AtomicU64,
    #[expect(
        clippy::disallowed_types,
        reason = "a worker takes it once for each set of keys that main has fetched"
    )]
    keys: std::sync::Mutex<Option<Keys>>,
}

/// Keys, and until when they serve.
type Keys = (Arc<Jwks>, Instant);

/// Keys that this worker knows, by the number of their source, with the generation in which main had fetched them.
type Known = RefCell<HashMap<u64, (Keys, u64)>>;

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Ahead {
    fn set(&self, keys: Keys) {
        // Nothing that panics runs while it is held.
        *self.keys.lock().unwrap_or_else(|e| e.into_inner()) = Some(keys);
        self.generation.fetch_add(1, Ordering::Release);
    }
    fn get(&self) -> Option<Keys> {
        self.keys.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl Remote {
    /// From configuration; `async_fetch` begins to fetch when the listener waits for it, or at once.
    ///
    /// # Errors
    /// The URI is none, or has no cluster.
    pub fn new(
        provider: &str,
        r: &pb::RemoteJwks,
        stats: &JwtStats,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Remote> {
        let uri = r.http_uri.as_ref().ok_or("field: \"http_uri\", reason: is required")?;
        let invalid = || BuildError(format!("Provider '{provider}' has an invalid URI: '{}'", uri.uri));
        let rest = uri.uri.strip_prefix("https://").or_else(|| uri.uri.strip_prefix("http://"));
        let (authority, path) =
            rest.map(|r| r.split_at(r.find('/').unwrap_or(r.len()))).ok_or_else(invalid)?;
        if authority.is_empty() {
            return Err(invalid());
        }
        let Some(HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
            return Err("field: \"http_upstream_type\", reason: is required".into());
        };
        let options =
            ClientOptions { retry_policy: r.retry_policy.as_deref(), ..ClientOptions::new(cluster) };
        let source = Source {
            uri: uri.uri.clone(),
            client: cx.server.http_client(&options, cx)?,
            authority: authority.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            timeout: millis(uri.timeout.as_ref()).filter(|t| !t.is_zero()),
        };
        let keep = millis(r.cache_duration.as_ref()).unwrap_or(Duration::from_secs(600));
        let ahead = r.async_fetch.as_ref().map(|_| Arc::new(Ahead::default()));
        let fetching = r.async_fetch.as_ref().zip(ahead.as_ref()).filter(|_| !cx.validate_only);
        let fetching = fetching.map(|(c, ahead)| {
            let again = millis(c.failed_refetch_duration.as_ref()).unwrap_or(Duration::from_secs(1));
            let name = format!("target Jwks async fetching url={}", source.uri);
            let waiting = (!c.fast_listener).then(|| (cx.init.clone(), cx.init.target(&name)));
            let (source, ahead, stats) = (source.clone(), Arc::downgrade(ahead), stats.clone());
            Background::new(async move {
                let target = match waiting {
                    Some((init, target)) => {
                        init.begun().await;
                        Some(target)
                    }
                    None => None,
                };
                fetch_ahead(&source, ahead, keep, again, &stats, target).await;
            })
        });
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Remote { id, source, keep, ahead, _fetching: fetching })
    }
    /// The keys, which are fetched if need be.
    ///
    /// # Errors
    /// There are none to be had.
    pub async fn keys(&self, stats: &JwtStats) -> Result<Arc<Jwks>, Status> {
        let here = worker::local(Known::default);
        if let Some(ahead) = &self.ahead {
            let now = ahead.generation.load(Ordering::Acquire);
            let known = here.borrow().get(&self.id).map_or(0, |(_, generation)| *generation);
            if known != now
                && let Some(keys) = ahead.get()
            {
                here.borrow_mut().insert(self.id, (keys, now));
            }
        }
        let generation = match here.borrow().get(&self.id) {
            Some(((keys, until), _)) if clock::now() < *until => return Ok(keys.clone()),
            Some((_, generation)) => *generation,
            None => 0,
        };
        let Some(keys) = self.source.fetch(stats).await else { return Err(Status::JwksFetchFail) };
        here.borrow_mut().insert(self.id, ((keys.clone(), clock::now() + self.keep), generation));
        Ok(keys)
    }
}

/// Fetches keys again and again, as long as somebody needs them; `target` waits for the first attempt.
async fn fetch_ahead(
    source: &Source,
    ahead: Weak<Ahead>,
    keep: Duration,
    again: Duration,
    stats: &JwtStats,
    mut target: Option<nuncio_core::init::Target>,
) {
    loop {
        let found = source.fetch(stats).await;
        let Some(ahead) = ahead.upgrade() else { return };
        let pause = match found {
            Some(keys) => {
                ahead.set((keys, clock::now() + keep));
                if keep > AHEAD { keep - AHEAD } else { keep }
            }
            None => {
                log!(Jwt, Warning, "Jwks async fetching url={}: failed", source.uri);
                again
            }
        };
        drop((ahead, target.take()));
        clock::sleep(TimerKind::Other, pause).await;
    }
}

impl Source {
    async fn fetch(&self, stats: &JwtStats) -> Option<Arc<Jwks>> {
        let keys = self.ask().await;
        match keys {
            Some(_) => stats.jwks_fetch_success().inc(),
            None => stats.jwks_fetch_failed().inc(),
        }
        keys.map(Arc::new)
    }
    async fn ask(&self) -> Option<Jwks> {
        let mut head = RequestHead::default();
        head.headers.append(name::METHOD, b"GET");
        head.headers.append(name::SCHEME, b"http");
        head.headers.append(name::AUTHORITY, self.authority.as_bytes());
        head.headers.append(name::PATH, self.path.as_bytes());
        head.headers.append(name::USER_AGENT, b"Go-browser");
        let call = self.client.call(head, Body::Empty, CallOptions { timeout: self.timeout });
        let mut answer = call.await.ok()?;
        if answer.head.status != 200 {
            return None;
        }
        answer.body.buffer(MOST_KEYS, &answer.sx).await.ok()?;
        let body = match answer.body.take() {
            Body::Full(c) => c,
            _ => return None,
        };
        Jwks::read(&body).ok()
    }
}
