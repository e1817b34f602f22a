mod otlp;

use super::buffer::{Export, Reporter};
use super::collector::{self, Collector};
use super::put;
use super::w3c::{self, Parent};
use nuncio_api::envoy::config::trace::v3::OpenTelemetryConfig;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::registry::Docs;
use nuncio_core::tracing::{Span, SpanKind, Start, Tracer};
use nuncio_core::{BuildResult, LocalBoxFuture, Registry, grpc, rng, stats};
use nuncio_wire::{HeaderMap, name};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// Its well-known name.
pub const NAME: &str = "envoy.tracers.opentelemetry";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.trace.v3.OpenTelemetryConfig",
        &[
            "grpc_service",
            "http_service",
            "service_name",
            "max_cache_size",
            "set_telemetry_sdk_resource_attributes",
            "set_service_name_resource_attribute",
            "set_instrumentation_scope",
        ],
    ),
    collector::COVERED[0],
];

/// Registers the tracer.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.tracer::<OpenTelemetry>(NAME, docs);
}

stats! {
    /// `tracing.opentelemetry.`
    struct OtelStats {
        spans_dropped: Counter,
        spans_sent: Counter,
        timer_flushed: Counter,
    }
}

/// The version of Envoy whose behaviour this follows, as collectors see it.
const VERSION: &str = "1.40.0";
const METHOD: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The tracer.
pub struct OpenTelemetry(Reporter<Otlp>);

struct Otlp {
    to: Option<To>,
    resource: otlp::Resource,
    scope: Option<otlp::Scope>,
    stats: OtelStats,
}

enum To {
    Grpc(grpc::Client),
    Http(Collector, Duration),
}

/// How exporters call themselves.
pub(crate) fn agent() -> String {
    format!("OTel-OTLP-Exporter-Envoy/{VERSION}")
}

impl Export for Otlp {
    fn export(self: Arc<Self>, spans: Vec<Span>) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let Some(to) = &self.to else { return };
            self.stats.spans_sent().add(spans.len() as u64);
            let scope_spans = otlp::ScopeSpans {
                scope: self.scope.clone(),
                spans: spans.into_iter().map(otlp::span).collect(),
            };
            let resource_spans = vec![otlp::ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![scope_spans],
            }];
            let request = otlp::ExportTraceServiceRequest { resource_spans };
            match to {
                To::Grpc(client) => {
                    // What the collector says to it is of no use to anybody here. Envoy heeds no timeout here; the circuit
                    // breakers bound what waits.
                    let _: Result<otlp::ExportTraceServiceResponse, _> =
                        client.unary(METHOD, &request, None, None).await;
                }
                To::Http(c, timeout) => {
                    let body = request.encode_to_vec();
                    let _ = c.post("application/x-protobuf", Some(&agent()), body, *timeout).await;
                }
            }
        })
    }
    fn timer_flushed(&self) {
        self.stats.timer_flushed().inc();
    }
    fn dropped(&self) {
        self.stats.spans_dropped().inc();
    }
}

impl Tracer for OpenTelemetry {
    type Config = OpenTelemetryConfig;

    fn new(c: OpenTelemetryConfig, cx: &BuildCx<'_>) -> BuildResult<OpenTelemetry> {
        let to = match (&c.grpc_service, &c.http_service) {
            (Some(_), Some(_)) => {
                return Err("OpenTelemetry Tracer cannot have both gRPC and HTTP exporters configured. OpenTelemetry \
                            tracer will be disabled."
                    .into());
            }
            (Some(s), None) => {
                let mut s = s.clone();
                s.initial_metadata.push(nuncio_api::envoy::config::core::v3::HeaderValue {
                    key: "user-agent".to_owned(),
                    value: agent(),
                    ..Default::default()
                });
                Some(To::Grpc(grpc::Client::new(&s, cx)?))
            }
            (None, Some(s)) => {
                let (collector, timeout) = Collector::of(s, cx)?;
                Some(To::Http(collector, timeout))
            }
            (None, None) => None,
        };
        let mut attributes = vec![];
        if c.set_service_name_resource_attribute.unwrap_or(true) {
            let name = if c.service_name.is_empty() { "unknown_service:envoy" } else { &c.service_name };
            attributes.push(otlp::attribute("service.name", name));
        }
        if c.set_telemetry_sdk_resource_attributes.unwrap_or(true) {
            attributes.push(otlp::attribute("telemetry.sdk.language", "cpp"));
            attributes.push(otlp::attribute("telemetry.sdk.name", "envoy"));
            attributes.push(otlp::attribute("telemetry.sdk.version", VERSION));
        }
        let scope = c
            .set_instrumentation_scope
            .unwrap_or(true)
            .then(|| otlp::Scope { name: "envoy".to_owned(), version: VERSION.to_owned() });
        let scope_of_stats = cx.scope.store().root().scope("tracing").scope("opentelemetry");
        let otlp = Otlp {
            to,
            resource: otlp::Resource { attributes },
            scope,
            stats: OtelStats::new(&scope_of_stats),
        };
        let most = c.max_cache_size.unwrap_or(1024) as usize;
        Ok(OpenTelemetry(Reporter::new(Arc::new(otlp), "tracing.opentelemetry", most, cx)))
    }
    fn start(&self, s: &Start<'_>, headers: &HeaderMap) -> Option<Span> {
        let kind = if s.egress && !s.independent { SpanKind::Client } else { SpanKind::Server };
        match Parent::of(headers) {
            None => Some(begin(s, kind, (rng::u64(), rng::u64()), None, s.sampled, vec![])),
            // What brings a trace along has been decided about.
            Some(Ok(p)) => Some(begin(s, kind, p.trace, Some(p.span), p.sampled, p.state)),
            Some(Err(w3c::Invalid)) => None,
        }
    }
    fn child(&self, parent: &Span, s: &Start<'_>) -> Span {
        let trace = (parent.trace_high.unwrap_or(0), parent.trace);
        begin(s, SpanKind::Client, trace, Some(parent.id), parent.sampled, parent.state.clone())
    }
    fn inject(&self, span: &Span, h: &mut HeaderMap) {
        w3c::inject(span, h);
        put(h, name::TRACESTATE, &span.state);
    }
    fn span_id(&self, span: &Span) -> Option<String> {
        Some(format!("{:016x}", span.id))
    }
    fn report(&self, span: Span) {
        self.0.report(span);
    }
}

fn begin(
    s: &Start<'_>,
    kind: SpanKind,
    trace: (u64, u64),
    parent: Option<u64>,
    sampled: bool,
    state: Vec<u8>,
) -> Span {
    Span {
        name: s.operation.to_owned(),
        kind,
        trace_high: Some(trace.0),
        trace: trace.1,
        id: rng::u64(),
        parent,
        sampled,
        state,
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
