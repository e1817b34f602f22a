//! Extensions that exist for tests only.
//!
//! * the filter [`FILTER`], which misbehaves where its configuration says;
//! * the access log [`LOG`], whose lines a test can read.
//!
//! Both borrow the configuration message of an extension that is not built, since the loader must know it and tell its
//! kind: Lua's for the filter, Wasm's for the log.

use nuncio_api::envoy::extensions::access_loggers::wasm::v3::WasmAccessLog;
use nuncio_api::envoy::extensions::filters::http::lua::v3::Lua;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use nuncio_core::info::StreamShared;
use nuncio_core::init::Target;
use nuncio_core::kinds::AccessLogger;
use nuncio_core::registry::{Docs, Registry};
use nuncio_core::{BuildResult, Exchange};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Name of the filter.
pub const FILTER: &str = "test.probe";
/// Name of the access log.
pub const LOG: &str = "test.log";

/// Registers both.
pub fn register(r: &mut Registry) {
    let docs = Docs { text: "", example: "" };
    r.http_filter::<Probe>(FILTER, docs);
    r.access_logger::<Logger>(LOG, docs);
}

thread_local! {
    /// What listeners wait for, on main.
    static TARGETS: RefCell<Vec<Target>> = RefCell::default();
}

/// Lets the listeners be warm that wait because of a probe; on main.
pub fn release() {
    TARGETS.take();
}

/// What a probe does, for requests that carry the header `x-probe` (others pass).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    PanicOnRequest,
    PanicOnResponse,
    PanicOnDone,
    PanicInBody,
    PanicInWait,
    /// Keeps its listener from being warm until [`release`] is called.
    Warm,
    /// Waits this long in `on_response`.
    WaitOnResponse(Duration),
    /// Waits this long in `on_request`.
    WaitOnRequest(Duration),
}

/// The filter. Its `stat_prefix` says what it does: `panic-on-request`, `panic-on-response`, `panic-on-done`, `panic-in-body`,
/// `panic-in-wait`, `warm`, `wait-on-request:<ms>` or `wait-on-response:<ms>`.
pub struct Probe(Act);

impl HttpFilter for Probe {
    type Config = Lua;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = ();

    fn new(config: Lua, cx: &BuildCx<'_>) -> BuildResult<Probe> {
        let config = config.stat_prefix;
        let (what, ms) = config.split_once(':').unwrap_or((&config, "0"));
        let wait = Duration::from_millis(ms.parse().map_err(|_| "no number")?);
        Ok(Probe(match what {
            "panic-on-request" => Act::PanicOnRequest,
            "panic-on-response" => Act::PanicOnResponse,
            "panic-on-done" => Act::PanicOnDone,
            "panic-in-body" => Act::PanicInBody,
            "panic-in-wait" => Act::PanicInWait,
            "warm" => {
                TARGETS.with_borrow_mut(|t| t.push(cx.init.target("probe")));
                Act::Warm
            }
            "wait-on-request" => Act::WaitOnRequest(wait),
            "wait-on-response" => Act::WaitOnResponse(wait),
            _ => return Err(format!("unknown act {what}").into()),
        }))
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }
    fn on_request<'a>(self: &'a Arc<Self>, _: &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if !ex.request.headers.contains("x-probe") {
            return Step::Next;
        }
        match self.0 {
            Act::PanicOnRequest => panic!("on_request"),
            Act::PanicInWait => Step::wait(async {
                pause(Duration::from_millis(1)).await;
                panic!("while waiting")
            }),
            Act::WaitOnRequest(t) => Step::wait(async move {
                pause(t).await;
                Step::Next
            }),
            _ => Step::Next,
        }
    }
    fn on_response<'a>(self: &'a Arc<Self>, _: &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if !ex.request.headers.contains("x-probe") {
            return Step::Next;
        }
        match self.0 {
            Act::PanicOnResponse => panic!("on_response"),
            Act::PanicInBody => {
                ex.response_body = Body::source(Panics);
                Step::Next
            }
            Act::WaitOnResponse(t) => Step::wait(async move {
                pause(t).await;
                Step::Next
            }),
            _ => Step::Next,
        }
    }
    fn on_done(self: &Arc<Self>, _: &mut (), ex: &Exchange) {
        assert!(self.0 != Act::PanicOnDone || !ex.request.headers.contains("x-probe"), "on_done");
    }
}

async fn pause(t: Duration) {
    nuncio_core::clock::sleep(nuncio_core::clock::TimerKind::Other, t).await;
}

struct Panics;
impl BodySource for Panics {
    fn poll_frame(
        &mut self,
        _: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        panic!("in a body")
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);
static LINES: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::new(BTreeMap::new());

fn lines() -> MutexGuard<'static, BTreeMap<u64, Vec<String>>> {
    LINES.lock().unwrap_or_else(|e| e.into_inner())
}

/// Lines of an access log; see [`Config::log`](crate::Config::log).
pub struct Log(u64);

impl Default for Log {
    fn default() -> Log {
        Log(NEXT.fetch_add(1, Relaxed))
    }
}

impl Log {
    pub(crate) fn id(&self) -> u64 {
        self.0
    }
    /// What was logged so far.
    pub fn lines(&self) -> Vec<String> {
        lines().get(&self.0).cloned().unwrap_or_default()
    }
    /// Waits for the `n`th line, from 1.
    ///
    /// # Panics
    /// It does not come.
    pub async fn line(&self, n: usize) -> String {
        let began = Instant::now();
        loop {
            if let Some(l) = self.lines().get(n - 1) {
                return l.clone();
            }
            assert!(began.elapsed() < Duration::from_secs(5), "no line {n} in {:?}", self.lines());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        lines().remove(&self.0);
    }
}

struct Logger(u64, Formatter);

impl AccessLogger for Logger {
    type Config = WasmAccessLog;
    /// `config.name` holds the log's number and the format.
    fn new(config: WasmAccessLog, _: &BuildCx<'_>) -> BuildResult<Logger> {
        let config = config.config.map(|c| c.name).unwrap_or_default();
        let (id, format) = config.split_once(' ').ok_or("no format")?;
        Ok(Logger(id.parse().map_err(|_| "no number")?, Formatter::text(format, Purpose::Log)?))
    }
    fn log(&self, entry: &FormatCx<'_>) {
        let mut line = vec![];
        self.1.append(entry, &mut line);
        let line = String::from_utf8_lossy(&line).into_owned();
        lines().entry(self.0).or_default().push(line);
    }
}
