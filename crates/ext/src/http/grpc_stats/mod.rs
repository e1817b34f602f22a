use crate::grpc::{FrameCounter, GrpcStats, is_grpc, names};
use nuncio_api::envoy::extensions::filters::http::grpc_stats::v3 as pb;
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::filter_state::{LifeSpan, StateObject};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry, StreamShared};
use nuncio_wire::{HeaderMap, name};
use pb::filter_config::PerMethodStatSpecifier as Methods;
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Its well-known name, and that of its object in the filter state.
pub const NAME: &str = "envoy.filters.http.grpc_stats";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
        &[
            "emit_filter_state",
            "individual_method_stats_allowlist",
            "stats_for_all_methods",
            "enable_upstream_stats",
            "replace_dots_in_grpc_service_name",
        ],
    ),
    Covered::new("envoy.config.core.v3.GrpcMethodList", &["services"]),
    Covered::new("envoy.config.core.v3.GrpcMethodList.Service", &["name", "method_names"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Filter>(NAME, docs);
}

/// The filter.
pub struct Filter {
    stats: GrpcStats,
    emit: bool,
    upstream: bool,
    replace_dots: bool,
    methods: Named,
}

/// Which methods are counted by name.
enum Named {
    All,
    These(HashSet<(String, String)>),
}

/// What is known of an exchange of gRPC.
pub struct Tracked {
    /// Where it counts; none when its path names no method.
    to: Option<(GrpcStats, String)>,
    emit: bool,
    upstream: bool,
    counts: Rc<Counts>,
}

/// Messages so far, in both directions.
#[derive(Default)]
struct Counts {
    request: Cell<u64>,
    response: Cell<u64>,
}

impl StateObject for Counts {
    fn text(&self) -> Option<String> {
        Some(format!("{},{}", self.request.get(), self.response.get()))
    }
}

impl Tracked {
    fn messages(&self, n: u64, response: bool, sx: &StreamShared) {
        let (count, what) = match response {
            false => (&self.counts.request, "request_message_count"),
            true => (&self.counts.response, "response_message_count"),
        };
        let before = self.counts.request.get() + self.counts.response.get();
        count.set(count.get() + n);
        if self.emit && before == 0 {
            sx.info.filter_state.borrow_mut().set(NAME, LifeSpan::FilterChain, self.counts.clone());
        }
        if let Some((stats, prefix)) = &self.to {
            stats.add(prefix, what, n);
        }
    }
    fn status(&self, headers: &HeaderMap) {
        if let (Some((stats, prefix)), Some(status)) = (&self.to, headers.get(name::GRPC_STATUS)) {
            stats.status(prefix, status);
        }
    }
    /// The response is over: how long the service took, from the last byte sent to the last received.
    fn over(&self, sx: &StreamShared) {
        let times = &sx.info.times;
        if let (Some((stats, prefix)), Some(sent), Some(received), true) =
            (&self.to, times.us_tx_end.get(), times.us_rx_end.get(), self.upstream)
        {
            let millis = received.saturating_duration_since(sent).as_millis() as u64;
            stats.times().get(&format!("{prefix}.upstream_rq_time")).record(millis);
        }
    }
}

/// A body whose messages are counted as they pass.
struct Counted {
    body: Body,
    tracked: Rc<Tracked>,
    frames: FrameCounter,
    response: bool,
}

impl BodySource for Counted {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        sx: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = self.body.poll_frame(cx, sx);
        match &frame {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                let n = self.frames.inspect(data);
                if n > 0 {
                    self.tracked.messages(n, self.response, sx);
                }
            }
            Poll::Ready(Some(Ok(Frame::Trailers(t)))) if self.response => {
                self.tracked.status(t);
                self.tracked.over(sx);
            }
            _ => {}
        }
        frame
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

fn count(body: &mut Body, tracked: &Rc<Tracked>, response: bool) {
    if !body.is_end() {
        let frames = FrameCounter::default();
        *body = Body::source(Counted { body: body.take(), tracked: tracked.clone(), frames, response });
    }
}

impl HttpFilter for Filter {
    type Config = pb::FilterConfig;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = Option<Rc<Tracked>>;

    fn new(config: pb::FilterConfig, cx: &BuildCx<'_>) -> BuildResult<Filter> {
        let methods = match &config.per_method_stat_specifier {
            Some(Methods::StatsForAllMethods(true)) => Named::All,
            Some(Methods::IndividualMethodStatsAllowlist(l)) => {
                let names = l
                    .services
                    .iter()
                    .flat_map(|s| s.method_names.iter().map(|m| (s.name.clone(), m.clone())));
                Named::These(names.collect())
            }
            Some(Methods::StatsForAllMethods(false)) | None => Named::These(HashSet::new()),
        };
        Ok(Filter {
            stats: GrpcStats::of_clusters(cx.scope),
            emit: config.emit_filter_state,
            upstream: config.enable_upstream_stats,
            replace_dots: config.replace_dots_in_grpc_service_name,
            methods,
        })
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }

    fn on_request<'a>(
        self: &'a Arc<Self>,
        st: &'a mut Option<Rc<Tracked>>,
        ex: &'a mut Exchange,
    ) -> Step<'a> {
        if !is_grpc(&ex.request.headers) {
            return Step::Next;
        }
        let route = ex.route();
        let cluster = route.as_ref().and_then(|r| r.cluster(&ex.request, &ex.sx));
        let to = cluster.zip(names(ex.request.path())).map(|(cluster, mut names)| {
            let known = match &self.methods {
                Named::All => {
                    if self.replace_dots {
                        names.0 = names.0.replace('.', "_");
                    }
                    true
                }
                Named::These(l) => l.contains(&names),
            };
            (self.stats.clone(), GrpcStats::prefix(&cluster, "grpc", known.then_some(&names)))
        });
        let tracked =
            Rc::new(Tracked { to, emit: self.emit, upstream: self.upstream, counts: Rc::default() });
        count(&mut ex.request_body, &tracked, false);
        *st = Some(tracked);
        Step::Next
    }

    fn on_response<'a>(
        self: &'a Arc<Self>,
        st: &'a mut Option<Rc<Tracked>>,
        ex: &'a mut Exchange,
    ) -> Step<'a> {
        let Some(head) = &ex.response else { return Step::Next };
        let grpc = head.status == 200 && is_grpc(&head.headers);
        if st.is_none() && !(grpc && self.emit) {
            return Step::Next;
        }
        // A service may answer in gRPC's way what was no call; its messages are noted, and count nowhere.
        let tracked = st.get_or_insert_with(|| {
            Rc::new(Tracked { to: None, emit: self.emit, upstream: false, counts: Rc::default() })
        });
        tracked.status(&head.headers);
        if ex.response_body.is_end() {
            tracked.over(&ex.sx);
        } else if grpc {
            count(&mut ex.response_body, tracked, true);
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;
