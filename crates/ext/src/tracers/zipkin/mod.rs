mod b3;
mod spans;

use super::buffer::{Export, Reporter};
use super::collector::Collector;
use super::w3c::{self, Parent};
use b3::Context;
use nuncio_api::envoy::config::trace::v3::ZipkinConfig;
use nuncio_api::envoy::config::trace::v3::zipkin_config::{CollectorEndpointVersion, TraceContextOption};
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::registry::Docs;
use nuncio_core::runtime::RuntimeNumber;
use nuncio_core::tracing::{Span, SpanKind, Start, Tracer};
use nuncio_core::upstreams::CallError;
use nuncio_core::{BuildError, BuildResult, LocalBoxFuture, Registry, rng, stats};
use nuncio_wire::HeaderMap;
use spans::Service;
use std::sync::Arc;
use std::time::Duration;

/// Its well-known name.
pub const NAME: &str = "envoy.tracers.zipkin";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.config.trace.v3.ZipkinConfig",
    &[
        "collector_cluster",
        "collector_endpoint",
        "trace_id_128bit",
        "shared_span_context",
        "collector_endpoint_version",
        "collector_hostname",
        "split_spans_for_request",
        "trace_context_option",
        "collector_service",
    ],
)];

/// Registers the tracer.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.tracer::<Zipkin>(NAME, docs);
}

stats! {
    /// `tracing.zipkin.`
    struct ZipkinStats {
        reports_dropped: Counter,
        reports_failed: Counter,
        reports_sent: Counter,
        reports_skipped_no_cluster: Counter,
        spans_sent: Counter,
        timer_flushed: Counter,
    }
}

/// The tracer.
pub struct Zipkin {
    reporter: Reporter<Reports>,
    trace_id_128bit: bool,
    /// `split_spans_for_request`
    split: bool,
    /// Reads and writes `traceparent`, too.
    w3c: bool,
}

struct Reports {
    collector: Collector,
    service: Service,
    /// `HTTP_PROTO`, not `HTTP_JSON`
    proto: bool,
    timeout: RuntimeNumber,
    stats: ZipkinStats,
}

impl Export for Reports {
    fn export(self: Arc<Self>, spans: Vec<Span>) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            self.stats.spans_sent().add(spans.len() as u64);
            let (kind, body) = match self.proto {
                true => ("application/x-protobuf", self.service.proto(&spans)),
                false => ("application/json", self.service.json(&spans)),
            };
            let timeout = Duration::from_millis(self.timeout.get());
            match self.collector.post(kind, None, body, timeout).await {
                Ok(202) => self.stats.reports_sent().inc(),
                Ok(_) => self.stats.reports_dropped().inc(),
                Err(CallError::NoCluster) => self.stats.reports_skipped_no_cluster().inc(),
                Err(CallError::Reset(_)) => self.stats.reports_failed().inc(),
            }
        })
    }
    fn timer_flushed(&self) {
        self.stats.timer_flushed().inc();
    }
}

impl Tracer for Zipkin {
    type Config = ZipkinConfig;

    fn new(c: ZipkinConfig, cx: &BuildCx<'_>) -> BuildResult<Zipkin> {
        let proto = match c.collector_endpoint_version() {
            CollectorEndpointVersion::HttpJson => false,
            CollectorEndpointVersion::HttpProto => true,
            CollectorEndpointVersion::Grpc => {
                return Err(BuildError::not_implemented("ZipkinConfig.collector_endpoint_version: GRPC"));
            }
            CollectorEndpointVersion::DeprecatedAndUnavailableDoNotUse => {
                return Err(
                    "hidden_envoy_deprecated_HTTP_JSON_V1 has been deprecated. Please use a non-default \
                            envoy::config::trace::v3::ZipkinConfig::CollectorEndpointVersion value."
                        .into(),
                );
            }
        };
        let (cluster, collector) = match &c.collector_service {
            Some(s) => {
                use nuncio_api::envoy::config::core::v3::http_uri::HttpUpstreamType::Cluster;
                let uri = s.http_uri.as_ref().and_then(|u| u.http_upstream_type.clone());
                (uri.map(|Cluster(c)| c).unwrap_or_default(), Collector::of(s, cx)?.0)
            }
            None if c.collector_cluster.is_empty() || c.collector_endpoint.is_empty() => {
                return Err("collector_cluster and collector_endpoint must be specified when not using \
                            collector_service"
                    .into());
            }
            None => {
                let cluster = c.collector_cluster.clone();
                let host = if c.collector_hostname.is_empty() { &cluster } else { &c.collector_hostname };
                let collector = Collector::new(&cluster, host, &c.collector_endpoint, cx)?;
                (cluster, collector)
            }
        };
        if !cx.server.has_cluster(&cluster) {
            return Err(BuildError(format!("{NAME}: unknown cluster '{cluster}'")));
        }
        let runtime = cx.server.runtime();
        let reports = Reports {
            collector,
            service: Service::new(&cx.node.cluster, c.shared_span_context.unwrap_or(true)),
            proto,
            timeout: runtime.number("tracing.zipkin.request_timeout", 5000),
            stats: ZipkinStats::new(&cx.scope.store().root().scope("tracing").scope("zipkin")),
        };
        Ok(Zipkin {
            reporter: Reporter::new(Arc::new(reports), "tracing.zipkin", usize::MAX, cx),
            trace_id_128bit: c.trace_id_128bit,
            split: c.split_spans_for_request,
            w3c: c.trace_context_option() == TraceContextOption::UseB3WithW3cPropagation,
        })
    }
    fn start(&self, s: &Start<'_>, headers: &HeaderMap) -> Option<Span> {
        let parent = if self.w3c { Parent::of(headers).and_then(Result::ok) } else { None };
        let said = match b3::is_spoken(headers) {
            true => b3::sampled(headers),
            false => parent.as_ref().map(|p| p.sampled),
        };
        let sampled = said.unwrap_or(s.sampled);
        let context = match Context::of(headers, sampled) {
            Some(Ok(found)) => found,
            Some(Err(b3::Invalid)) => return None,
            None => parent.map(|p| Context {
                trace_high: p.trace.0,
                trace: p.trace.1,
                span: p.span,
                parent: 0,
                sampled: p.sampled || sampled,
            }),
        };
        let split = self.split || s.independent;
        let kind = if s.egress && !split { SpanKind::Client } else { SpanKind::Server };
        let mut begun = match context {
            Some(c) => self.part_of(&c, kind, s.host, s),
            None => {
                let id = rng::u64();
                let high = self.trace_id_128bit.then(rng::u64);
                span(s, s.host, kind, (high, id), id, None, sampled)
            }
        };
        begun.single_header = b3::is_single(headers);
        Some(begun)
    }
    fn child(&self, parent: &Span, s: &Start<'_>) -> Span {
        let split = self.split || s.independent;
        let kind = if split || s.egress { SpanKind::Client } else { SpanKind::Server };
        let c = Context {
            trace_high: parent.trace_high.unwrap_or(0),
            trace: parent.trace,
            span: parent.id,
            parent: parent.parent.unwrap_or(0),
            sampled: parent.sampled,
        };
        Span { single_header: parent.single_header, ..self.part_of(&c, kind, s.operation, s) }
    }
    fn inject(&self, span: &Span, h: &mut HeaderMap) {
        b3::inject(span, h);
        if self.w3c {
            w3c::inject(span, h);
        }
    }
    fn report(&self, span: Span) {
        self.reporter.report(span);
    }
}

impl Zipkin {
    fn part_of(&self, c: &Context, kind: SpanKind, name: &str, s: &Start<'_>) -> Span {
        let nonzero = |n: u64| (n != 0).then_some(n);
        let (id, parent) = match kind == SpanKind::Server && self.reporter.to().service.shares {
            // Both sides of a call are one span.
            true => (c.span, nonzero(c.parent)),
            false => (rng::u64(), Some(c.span)),
        };
        span(s, name, kind, (nonzero(c.trace_high), c.trace), id, parent, c.sampled)
    }
}

fn span(
    s: &Start<'_>,
    name: &str,
    kind: SpanKind,
    trace: (Option<u64>, u64),
    id: u64,
    parent: Option<u64>,
    sampled: bool,
) -> Span {
    Span {
        name: name.to_owned(),
        kind,
        trace_high: trace.0,
        trace: trace.1,
        id,
        parent,
        sampled,
        state: vec![],
        single_header: false,
        start: s.start,
        began: s.began,
        took: Duration::ZERO,
        tags: vec![],
        events: vec![],
    }
}

#[cfg(test)]
mod tests;
