//! The spans of what is sent to hosts: begun with each attempt, written into its headers, and completed with its stream.

use crate::upstream::local::Cluster;
use nuncio_core::error::ResetReason;
use nuncio_core::format::FormatCx;
use nuncio_core::info::StreamShared;
use nuncio_core::route::Route;
use nuncio_core::tracing::{Start, UpstreamSpan, tags};
use nuncio_core::{Exchange, clock};
use nuncio_wire::ResponseHead;

/// An attempt begins: its request carries the trace along. `child`: the attempt has a span of its own, whatever the
/// connection manager says (`start_child_span`).
pub fn begin(ex: &mut Exchange, cluster: &Cluster, child: bool) {
    if ex.sx.info.trace.borrow().is_some() {
        begin_traced(ex, cluster, child);
    }
}

#[cold]
fn begin_traced(ex: &mut Exchange, cluster: &Cluster, child: bool) {
    let sx = ex.sx.clone();
    let mut active = sx.info.trace.borrow_mut();
    let Some(active) = active.as_deref_mut() else { return };
    let Some((tracer, span)) = active.traced() else { return };
    let tracer = tracer.clone();
    if !active.settings.upstream_spans && !child {
        if active.settings.propagates {
            tracer.inject(span, &mut ex.request.headers);
        }
        return;
    }
    let formatted =
        active.route_upstream_operation.as_deref().or(active.settings.upstream_operation.as_ref());
    let operation = match formatted {
        None => format!("router {} egress", cluster.plan.observability_name),
        Some(f) => {
            let route = sx.current_route();
            let mut text = vec![];
            f.append(&facts(ex, route.as_deref()), &mut text);
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    let start = Start {
        operation: &operation,
        host: "",
        start: clock::wall(),
        began: clock::now(),
        egress: active.egress,
        independent: active.settings.upstream_spans,
        sampled: span.sampled,
    };
    let mut span = tracer.child(span, &start);
    let attempts = sx.info.attempts.get();
    if attempts > 1 {
        span.tag("retry.count", (attempts - 1).to_string());
    }
    if active.settings.propagates {
        tracer.inject(&span, &mut ex.request.headers);
    }
    active.upstream = Some(UpstreamSpan { span, status: 0 });
}

fn present(sx: &StreamShared, f: impl FnOnce(&mut UpstreamSpan)) {
    if let Some(active) = &mut *sx.info.trace.borrow_mut()
        && let Some(u) = &mut active.upstream
    {
        f(u);
    }
}

/// The response's head came.
pub fn answered(sx: &StreamShared, head: &ResponseHead) {
    present(sx, |u| {
        u.status = head.status;
        tags::grpc_answer(&mut u.span, Some(&head.headers));
    });
}

/// The stream was reset.
pub fn reset(sx: &StreamShared, reason: ResetReason) {
    present(sx, |u| {
        u.span.tag("error", "true");
        u.span.tag("error.reason", reason.text());
    });
}

/// The attempt is given up.
pub fn over(ex: &Exchange) {
    if let Some(active) = &mut *ex.sx.info.trace.borrow_mut() {
        let route = ex.sx.current_route();
        active.end_upstream(&facts(ex, route.as_deref()));
    }
}

/// An attempt is given up that was set aside for another one, whose request the exchange holds.
pub fn over_aside(sx: &StreamShared) {
    if let Some(active) = &mut *sx.info.trace.borrow_mut() {
        let route = sx.current_route();
        active.end_upstream(&FormatCx { route: route.as_deref(), ..FormatCx::new(&sx.info, &sx.conn) });
    }
}

fn facts<'a>(ex: &'a Exchange, route: Option<&'a dyn Route>) -> FormatCx<'a> {
    FormatCx { request: Some(&ex.request.headers), route, ..FormatCx::new(&ex.sx.info, &ex.sx.conn) }
}
