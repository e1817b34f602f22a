//! Tracing: why a request is traced, the spans of a stream, and what a tracer is (`envoy.tracers`).
//!
//! A connection manager decides and begins the span ([`Active`], kept with the stream's facts); the router has the tracer
//! write it into the headers of each attempt; at the end [`tags`] fills it in, and the tracer reports it.

pub mod tags;

use crate::error::BuildResult;
use crate::filter::{BuildCx, decode};
use crate::format::{FormatCx, HeaderFormatter};
use nuncio_wire::{HeaderMap, name};
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tags::CustomTag;

/// Why a request is traced (Envoy's `Tracing::Reason`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reason {
    /// It is not.
    #[default]
    NotTraceable,
    /// It was drawn (`random_sampling`).
    Sampling,
    /// Somebody inside asks for it (`x-envoy-force-trace`).
    ServiceForced,
    /// The client asks for it (`x-client-trace-id`).
    ClientForced,
}

/// Where a UUID says whether its request is traced: the version's digit.
const PLACE: usize = 14;
const UUID_LEN: usize = 36;

impl Reason {
    /// The request is traced.
    pub fn is_traced(self) -> bool {
        self != Reason::NotTraceable
    }
    /// What a request id says (`pack_trace_reason`).
    pub fn of_request_id(headers: &HeaderMap) -> Reason {
        match headers.get(name::X_REQUEST_ID).filter(|id| id.len() == UUID_LEN).map(|id| id[PLACE]) {
            Some(b'9') => Reason::Sampling,
            Some(b'a') => Reason::ServiceForced,
            Some(b'b') => Reason::ClientForced,
            _ => Reason::NotTraceable,
        }
    }
    /// Makes the request id say so, if it is a UUID.
    pub fn pack(self, headers: &mut HeaderMap) {
        let digit = match self {
            Reason::NotTraceable => b'4',
            Reason::Sampling => b'9',
            Reason::ServiceForced => b'a',
            Reason::ClientForced => b'b',
        };
        let id = headers.get(name::X_REQUEST_ID).filter(|id| id.len() == UUID_LEN && id[PLACE] != digit);
        if let Some(mut id) = id.map(<[u8]>::to_vec) {
            id[PLACE] = digit;
            headers.set(name::X_REQUEST_ID, &id);
        }
    }
}

/// Which side of a call a span is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanKind {
    /// Who was called.
    Server,
    /// Who calls.
    Client,
}

/// One span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Name of the operation.
    pub name: String,
    /// Its side.
    pub kind: SpanKind,
    /// The first half of the trace's number, where it has 128 bits.
    pub trace_high: Option<u64>,
    /// The trace's number, or its second half.
    pub trace: u64,
    /// Its own number.
    pub id: u64,
    /// The number of the span that it is part of.
    pub parent: Option<u64>,
    /// It will be reported.
    pub sampled: bool,
    /// `tracestate` (W3C Trace Context §3.3).
    pub state: Vec<u8>,
    /// The trace is carried along in one header, as it came (B3).
    pub single_header: bool,
    /// When it began, on the wall clock.
    pub start: SystemTime,
    /// When it began.
    pub began: Instant,
    /// How long it took; zero before its end.
    pub took: Duration,
    /// Tags, each once.
    pub tags: Vec<(Cow<'static, str>, String)>,
    /// What happened when (`verbose`).
    pub events: Vec<(SystemTime, &'static str)>,
}

impl Span {
    /// Sets a tag, in the place of one of the same name.
    pub fn tag(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.tags.iter_mut().find(|t| t.0 == name) {
            Some(t) => t.1 = value,
            None => self.tags.push((name, value)),
        }
    }
    /// The trace's number in hexadecimal digits.
    pub fn trace_hex(&self) -> String {
        match self.trace_high {
            Some(high) => format!("{high:016x}{:016x}", self.trace),
            None => format!("{:016x}", self.trace),
        }
    }
}

/// What a span begins with.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// `ingress`, `egress <host>`, or what an upstream's span is called.
    pub operation: &'a str,
    /// The host that is asked for; some tracers name spans by it.
    pub host: &'a str,
    /// When it begins, on the wall clock.
    pub start: SystemTime,
    /// When it begins.
    pub began: Instant,
    /// The request leaves the service (`traffic_direction: OUTBOUND`).
    pub egress: bool,
    /// The proxy is a hop of its own in the trace (`spawn_upstream_span`).
    pub independent: bool,
    /// What was decided here; a decision that the request brings along is preferred.
    pub sampled: bool,
}

/// A tracer: made on main, used on every worker.
pub trait Tracer: Sized + Send + Sync + 'static {
    /// The proto in `typed_config`.
    type Config: prost::Message + prost::Name + Default;
    /// Builds the tracer.
    ///
    /// # Errors
    /// The configuration is refused.
    fn new(config: Self::Config, cx: &BuildCx<'_>) -> BuildResult<Self>;
    /// Begins the span of a request, as part of the trace that its headers speak of. `None` when they cannot be read.
    fn start(&self, s: &Start<'_>, headers: &HeaderMap) -> Option<Span>;
    /// Begins a span for what is sent to a host.
    fn child(&self, parent: &Span, s: &Start<'_>) -> Span;
    /// Writes the span into the headers of a request to a host.
    fn inject(&self, span: &Span, headers: &mut HeaderMap);
    /// `%TRACE_ID%`
    fn trace_id(&self, span: &Span) -> String {
        span.trace_hex()
    }
    /// `%SPAN_ID%`; some tracers do not say it.
    fn span_id(&self, _: &Span) -> Option<String> {
        None
    }
    /// Takes a span that is over and was sampled.
    fn report(&self, span: Span);
}

/// What callers see of a tracer.
pub trait DynTracer: Send + Sync {
    /// As [`Tracer::start`].
    fn start(&self, s: &Start<'_>, headers: &HeaderMap) -> Option<Span>;
    /// As [`Tracer::child`].
    fn child(&self, parent: &Span, s: &Start<'_>) -> Span;
    /// As [`Tracer::inject`].
    fn inject(&self, span: &Span, headers: &mut HeaderMap);
    /// As [`Tracer::trace_id`].
    fn trace_id(&self, span: &Span) -> String;
    /// As [`Tracer::span_id`].
    fn span_id(&self, span: &Span) -> Option<String>;
    /// As [`Tracer::report`].
    fn report(&self, span: Span);
}

impl<T: Tracer> DynTracer for T {
    fn start(&self, s: &Start<'_>, headers: &HeaderMap) -> Option<Span> {
        Tracer::start(self, s, headers)
    }
    fn child(&self, parent: &Span, s: &Start<'_>) -> Span {
        Tracer::child(self, parent, s)
    }
    fn inject(&self, span: &Span, headers: &mut HeaderMap) {
        Tracer::inject(self, span, headers);
    }
    fn trace_id(&self, span: &Span) -> String {
        Tracer::trace_id(self, span)
    }
    fn span_id(&self, span: &Span) -> Option<String> {
        Tracer::span_id(self, span)
    }
    fn report(&self, span: Span) {
        Tracer::report(self, span);
    }
}

/// What the registry sees of a tracer.
pub trait TracerFactory: Send + Sync {
    /// Builds the tracer from the bytes of its config message.
    ///
    /// # Errors
    /// The configuration is refused.
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynTracer>>;
}

pub(crate) struct Factory<T>(pub PhantomData<fn() -> T>);
impl<T: Tracer> TracerFactory for Factory<T> {
    fn build(&self, config: &[u8], cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynTracer>> {
        Ok(Arc::new(T::new(decode::<T::Config>(config)?, cx)?))
    }
}

/// What a connection manager says about all its spans.
pub struct Settings {
    /// `provider`; without one there are decisions and no spans.
    pub tracer: Option<Arc<dyn DynTracer>>,
    /// `spawn_upstream_span`
    pub upstream_spans: bool,
    /// Not `no_context_propagation`.
    pub propagates: bool,
    /// `verbose`
    pub verbose: bool,
    /// `max_path_tag_length`, in bytes.
    pub max_path: usize,
    /// `custom_tags`
    pub custom_tags: Vec<CustomTag>,
    /// `operation`
    pub operation: Option<HeaderFormatter>,
    /// `upstream_operation`
    pub upstream_operation: Option<HeaderFormatter>,
}

/// The span of a stream, and what is to be known about it until its end.
pub struct Active {
    /// Of its connection manager.
    pub settings: Arc<Settings>,
    /// The span; none without a tracer, or if the request's headers cannot be read.
    pub span: Option<Span>,
    /// The request leaves the service.
    pub egress: bool,
    /// The request came with `x-envoy-decorator-operation`.
    pub overridden: bool,
    /// Tags of the route; they win over the settings'.
    pub route_tags: Option<Arc<[CustomTag]>>,
    /// `upstream_operation` of the route.
    pub route_upstream_operation: Option<Arc<HeaderFormatter>>,
    /// The span of the present attempt, where attempts have their own.
    pub upstream: Option<UpstreamSpan>,
}

/// The span of what is sent to a host.
pub struct UpstreamSpan {
    /// The span.
    pub span: Span,
    /// What the host answered, 0 for nothing.
    pub status: u16,
}

impl Active {
    /// The present attempt is over: its span is complete, with what is known of the host now.
    pub fn end_upstream(&mut self, cx: &FormatCx<'_>) {
        let (Some(mut u), Some(tracer)) = (self.upstream.take(), &self.settings.tracer) else { return };
        if u.span.sampled {
            u.span.took = crate::clock::now().saturating_duration_since(u.span.began);
            tags::host(&mut u.span, cx.info);
            tags::common(self, &mut u.span, cx, u.status);
            tracer.report(u.span);
        }
    }
}

impl Active {
    /// The tracer with its span.
    pub fn traced(&self) -> Option<(&Arc<dyn DynTracer>, &Span)> {
        Some((self.settings.tracer.as_ref()?, self.span.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_carry_the_reason() {
        let id = "12345678-1234-4234-8234-123456789abc";
        let mut h: HeaderMap = [("x-request-id", id)].into_iter().collect();
        assert_eq!(Reason::of_request_id(&h), Reason::NotTraceable);
        for (reason, digit) in
            [(Reason::Sampling, '9'), (Reason::ServiceForced, 'a'), (Reason::ClientForced, 'b')]
        {
            reason.pack(&mut h);
            assert_eq!(h.get_str(name::X_REQUEST_ID).and_then(|v| v.chars().nth(14)), Some(digit));
            assert_eq!(Reason::of_request_id(&h), reason);
        }
        Reason::NotTraceable.pack(&mut h);
        assert_eq!(h.get_str(name::X_REQUEST_ID), Some(id));
        let mut h: HeaderMap = [("x-request-id", "short")].into_iter().collect();
        Reason::Sampling.pack(&mut h);
        assert_eq!(h.get_str(name::X_REQUEST_ID), Some("short"));
    }
}
