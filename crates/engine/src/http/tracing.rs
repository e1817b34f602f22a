//! `HttpConnectionManager.tracing`: which requests are traced, and the span of each from its beginning to its end.

use super::Hcm;
use crate::route::{RouteEntry, RouteTracing};
use nuncio_api::envoy::config::trace::v3::tracing::Http;
use nuncio_api::envoy::config::trace::v3::tracing::http::ConfigType;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use nuncio_api::envoy::r#type::v3::Percent;
use nuncio_core::Exchange;
use nuncio_core::clock;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::{FormatCx, HeaderFormatter};
use nuncio_core::info::{Direction, StreamInfo};
use nuncio_core::matchers::FractionalPercent;
use nuncio_core::rng;
use nuncio_core::route::Route;
use nuncio_core::runtime::RuntimeFraction;
use nuncio_core::tracing::tags::{self, CustomTag};
use nuncio_core::tracing::{Active, DynTracer, Reason, Settings, Start};
use nuncio_core::worker;
use nuncio_wire::{HeaderMap, name};
use prost::Message;
use std::cell::RefCell;
use std::sync::{Arc, Weak};

/// What is read of it.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing",
        &[
            "client_sampling",
            "random_sampling",
            "overall_sampling",
            "verbose",
            "max_path_tag_length",
            "custom_tags",
            "provider",
            "spawn_upstream_span",
            "operation",
            "upstream_operation",
            "no_context_propagation",
        ],
    ),
    Covered::new("envoy.config.trace.v3.Tracing.Http", &["name", "typed_config"]),
];

/// A compiled `Tracing`.
pub struct TracingPlan {
    client: RuntimeFraction,
    random: RuntimeFraction,
    overall: RuntimeFraction,
    /// `use_request_id_for_trace_sampling`
    by_request_id: bool,
    /// `pack_trace_reason`
    pack: bool,
    settings: Arc<Settings>,
}

/// Tracers that exist: connection managers with the same provider share one. They live as long as any of these.
#[derive(Default)]
struct Tracers(RefCell<Vec<Known>>);

/// The bytes of its configuration, and the tracer.
type Known = (Vec<u8>, Weak<dyn DynTracer>);

fn provider(p: &Http, cx: &BuildCx<'_>) -> BuildResult<Arc<dyn DynTracer>> {
    let all = worker::local(Tracers::default);
    let key = p.encode_to_vec();
    let mut all = all.0.borrow_mut();
    all.retain(|(_, t)| t.strong_count() > 0);
    if let Some(known) = all.iter().find(|(k, _)| *k == key).and_then(|(_, t)| t.upgrade()) {
        return Ok(known);
    }
    let none = prost_types::Any::default();
    let config = p.config_type.as_ref().map_or(&none, |ConfigType::TypedConfig(any)| any);
    let tracer = cx.registry.build_tracer(&p.name, config, cx)?;
    all.push((key, Arc::downgrade(&tracer)));
    Ok(tracer)
}

/// In ten-thousandths.
fn percent(p: Option<&Percent>) -> FractionalPercent {
    let numerator = p.map_or(10_000.0, |p| (p.value * 100.0).round()) as u32;
    FractionalPercent { numerator, denominator: 10_000 }
}

impl TracingPlan {
    /// From configuration; `ids`: what the request id extension says, whether ids carry the reason and whether they decide.
    ///
    /// # Errors
    /// The provider, a format or a tag is refused.
    pub fn new(t: &Tracing, ids: (bool, bool), cx: &BuildCx<'_>) -> BuildResult<TracingPlan> {
        let client = t.client_sampling.as_ref().map_or(100.0, |p| p.value) as u32;
        let runtime = cx.server.runtime();
        let fraction = |key: &str, default| runtime.fraction(&format!("tracing.{key}"), default);
        let format = |f: &str| (!f.is_empty()).then(|| HeaderFormatter::new(f)).transpose();
        Ok(TracingPlan {
            client: fraction("client_enabled", FractionalPercent { numerator: client, denominator: 100 }),
            random: fraction("random_sampling", percent(t.random_sampling.as_ref())),
            overall: fraction("global_enabled", percent(t.overall_sampling.as_ref())),
            pack: ids.0,
            by_request_id: ids.1,
            settings: Arc::new(Settings {
                tracer: t.provider.as_ref().map(|p| provider(p, cx)).transpose()?,
                upstream_spans: t.spawn_upstream_span.unwrap_or(false),
                propagates: !t.no_context_propagation,
                verbose: t.verbose,
                max_path: t.max_path_tag_length.unwrap_or(256) as usize,
                custom_tags: CustomTag::list(&t.custom_tags)?,
                operation: format(&t.operation)?,
                upstream_operation: format(&t.upstream_operation)?,
            }),
        })
    }

    /// Whether a request is traced, and why; its id says so from now on.
    fn decide(&self, h: &mut HeaderMap, route: Option<&RouteTracing>) -> Reason {
        if !self.by_request_id {
            return Reason::Sampling;
        }
        // The same requests on every proxy on their way: the id decides.
        let number = h.get_str(name::X_REQUEST_ID).and_then(|id| u64::from_str_radix(id.get(..8)?, 16).ok());
        let Some(number) = number.map(|n| n % 10_000) else { return Reason::NotTraceable };
        let of_route = route.and_then(|r| r.sampling);
        let fraction = |f: &RuntimeFraction, i: usize| of_route.map_or_else(|| f.get(), |s| f.get_or(s[i]));
        let mut reason = if self.pack { Reason::of_request_id(h) } else { Reason::NotTraceable };
        if !reason.is_traced() {
            reason = if h.contains(name::X_CLIENT_TRACE_ID) && fraction(&self.client, 0).matches(rng::u64()) {
                Reason::ClientForced
            } else if h.contains(name::X_ENVOY_FORCE_TRACE) {
                Reason::ServiceForced
            } else if fraction(&self.random, 1).matches(number) {
                Reason::Sampling
            } else {
                return Reason::NotTraceable;
            };
            self.pack(reason, h);
        }
        if !fraction(&self.overall, 2).matches(number) {
            reason = Reason::NotTraceable;
            self.pack(reason, h);
        }
        reason
    }
    fn pack(&self, reason: Reason, h: &mut HeaderMap) {
        if self.pack {
            reason.pack(h);
        }
    }
}

fn traced(info: &StreamInfo) -> bool {
    info.trace_reason.get().is_traced() && !info.health_check.get()
}

/// The facts of an exchange, for formats.
fn facts<'a>(ex: &'a Exchange, route: Option<&'a dyn Route>) -> FormatCx<'a> {
    FormatCx {
        request: Some(&ex.request.headers),
        response: ex.response.as_ref().map(|r| (r.status, &r.headers)),
        trailers: ex.response_trailers.as_deref(),
        route,
        ..FormatCx::new(&ex.sx.info, &ex.sx.conn)
    }
}

impl Hcm {
    /// A request's route is chosen for the first time: decides whether it is traced.
    pub(super) fn decide_tracing(&self, ex: &mut Exchange) {
        let Some(t) = &self.plan.traces else { return };
        let route = ex.sx.current_route().and_then(<dyn Route>::downcast::<RouteEntry>);
        let of_route = route.as_ref().and_then(|r| r.tracing.as_deref());
        ex.sx.info.trace_reason.set(t.decide(&mut ex.request.headers, of_route));
    }

    /// Begins the span of a request, before the first filter runs.
    pub(super) fn begin_span(&self, ex: &mut Exchange) {
        let Some(t) = &self.plan.traces else { return };
        let settings = t.settings.clone();
        let route = ex.sx.current_route();
        let entry = route.clone().and_then(<dyn Route>::downcast::<RouteEntry>);
        let of_route = entry.as_ref().and_then(|r| r.tracing.as_deref());
        let egress = ex.sx.conn.listener.direction == Direction::Outbound;
        let info = &ex.sx.info;
        let span = settings.tracer.as_ref().and_then(|tracer| {
            let host = String::from_utf8_lossy(ex.request.authority());
            let operation = if egress { format!("egress {host}") } else { "ingress".to_owned() };
            let start = Start {
                operation: &operation,
                host: &host,
                start: info.start_wall,
                began: info.start,
                egress,
                independent: settings.upstream_spans,
                sampled: traced(info),
            };
            let mut span = tracer.start(&start, &ex.request.headers)?;
            span.tag("node_id", self.plan.node.id.clone());
            span.tag("zone", self.plan.node.zone.clone());
            Some(span)
        });
        let mut active = Box::new(Active {
            settings,
            span,
            egress,
            overridden: false,
            route_tags: of_route.map(|r| r.tags.clone()),
            route_upstream_operation: of_route.and_then(|r| r.upstream_operation.clone()),
            upstream: None,
        });
        let own = of_route.and_then(|r| r.operation.as_ref()).or(active.settings.operation.as_ref());
        let fixed = own.map(|f| {
            let mut text = vec![];
            f.append(&facts(ex, route.as_deref()), &mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        decorate(&mut active, &mut ex.request.headers, of_route, fixed);
        *ex.sx.info.trace.borrow_mut() = Some(active);
    }

    /// A response's head leaves: counts the decision, and names the operation to who asked.
    pub(super) fn answer_tracing(&self, headers: &mut HeaderMap, ex: &Exchange) {
        if self.plan.traces.is_none() {
            return;
        }
        if let Some(active) = &mut *ex.sx.info.trace.borrow_mut() {
            if !active.egress {
                let route = ex.sx.current_route().and_then(<dyn Route>::downcast::<RouteEntry>);
                let decorator = route.as_ref().and_then(|r| r.tracing.as_ref()?.decorator.as_ref());
                if let Some(d) = decorator.filter(|d| d.propagate && !active.overridden) {
                    headers.set(name::X_ENVOY_DECORATOR_OPERATION, d.operation.as_bytes());
                }
            } else if let Some(named) = headers.get_str(name::X_ENVOY_DECORATOR_OPERATION) {
                if let Some(span) = active.span.as_mut().filter(|_| !named.is_empty()) {
                    named.clone_into(&mut span.name);
                }
                headers.remove(name::X_ENVOY_DECORATOR_OPERATION);
            }
        }
        self.count_tracing(&ex.sx.info);
    }
    /// Counts why a request was traced, or not.
    pub(super) fn count_tracing(&self, info: &StreamInfo) {
        let (Some(_), Some(s)) = (&self.plan.traces, &self.plan.tracing) else { return };
        match info.trace_reason.get() {
            Reason::NotTraceable => s.not_traceable().inc(),
            _ if info.health_check.get() => s.not_traceable().inc(),
            Reason::ClientForced => s.client_enabled().inc(),
            Reason::ServiceForced => s.service_forced().inc(),
            Reason::Sampling => s.random_sampling().inc(),
        }
    }

    /// The exchange is over: its spans are complete.
    pub(super) fn end_span(&self, ex: &Exchange) {
        let Some(mut active) = ex.sx.info.trace.take() else { return };
        let route = ex.sx.current_route();
        let cx = facts(ex, route.as_deref());
        active.end_upstream(&cx);
        let (Some(tracer), Some(mut span)) = (active.settings.tracer.clone(), active.span.take()) else {
            return;
        };
        if !span.sampled {
            return;
        }
        span.took = clock::now().saturating_duration_since(span.began);
        tags::downstream(&active, &mut span, &cx);
        tracer.report(span);
    }
}

/// What the operation is called, and who is told.
fn decorate(active: &mut Active, h: &mut HeaderMap, route: Option<&RouteTracing>, fixed: Option<String>) {
    let decorator = route.and_then(|r| r.decorator.as_ref());
    let mut rename = |name: &str| {
        if let Some(span) = &mut active.span {
            name.clone_into(&mut span.name);
        }
    };
    if let Some(d) = decorator.filter(|_| fixed.is_none()) {
        rename(&d.operation);
    }
    if active.egress {
        if let Some(d) = decorator.filter(|d| d.propagate) {
            h.set(name::X_ENVOY_DECORATOR_OPERATION, d.operation.as_bytes());
        }
    } else if let Some(named) = h.get_str(name::X_ENVOY_DECORATOR_OPERATION) {
        if !named.is_empty() {
            if fixed.is_none() {
                rename(named);
            }
            active.overridden = true;
        }
        h.remove(name::X_ENVOY_DECORATOR_OPERATION);
    }
    if let (Some(name), Some(span)) = (fixed, &mut active.span) {
        span.name = name;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::runtime::Runtime;

    fn plan(random: u32, overall: u32, pack: bool) -> TracingPlan {
        let r = Runtime::default();
        let of = |numerator| r.fraction("k", FractionalPercent { numerator, denominator: 10_000 });
        TracingPlan {
            client: of(10_000),
            random: of(random),
            overall: of(overall),
            by_request_id: true,
            pack,
            settings: Arc::new(Settings::plain()),
        }
    }
    fn decide(p: &TracingPlan, headers: &[(&str, &str)]) -> (Reason, String) {
        let mut h: HeaderMap = headers.iter().copied().collect();
        let reason = p.decide(&mut h, None);
        (reason, h.get_str(name::X_REQUEST_ID).unwrap_or_default().to_owned())
    }
    /// Its number is 0x2710 - 1 = 9999 of 10,000.
    const ID: &str = "0000270f-1234-4234-8234-123456789abc";

    #[test]
    fn decisions() {
        let id = ("x-request-id", ID);
        let (reason, packed) = decide(&plan(10_000, 10_000, true), &[id]);
        assert_eq!((reason, &packed[14..15]), (Reason::Sampling, "9"));
        let (reason, packed) = decide(&plan(10_000, 10_000, false), &[id]);
        assert_eq!((reason, &*packed), (Reason::Sampling, ID));
        assert_eq!(decide(&plan(9_999, 10_000, true), &[id]), (Reason::NotTraceable, ID.to_owned()));
        let forced = [id, ("x-envoy-force-trace", "1")];
        assert_eq!(decide(&plan(0, 10_000, true), &forced).0, Reason::ServiceForced);
        let client = [id, ("x-client-trace-id", "x")];
        assert_eq!(decide(&plan(0, 10_000, true), &client).0, Reason::ClientForced);
        assert_eq!(decide(&plan(0, 9_999, true), &client), (Reason::NotTraceable, ID.to_owned()));
        let before = [("x-request-id", "0000270f-1234-9234-8234-123456789abc")];
        assert_eq!(
            decide(&plan(0, 10_000, true), &before).0,
            Reason::Sampling,
            "somebody has decided already"
        );
        assert_eq!(decide(&plan(0, 10_000, false), &before).0, Reason::NotTraceable);
        for bad in ["", "xyz", "short"] {
            assert_eq!(decide(&plan(10_000, 10_000, true), &[("x-request-id", bad)]).0, Reason::NotTraceable);
        }
    }
}
