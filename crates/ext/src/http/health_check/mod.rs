use nuncio_api::envoy::extensions::filters::http::health_check::v3 as pb;
use nuncio_core::body::BodyError;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::flags::Flag;
use nuncio_core::info::Interrupt;
use nuncio_core::matchers::{HeaderMatcher, matches_all};
use nuncio_core::registry::Docs;
use nuncio_core::runtime::ServerState;
use nuncio_core::{BuildResult, Exchange, LocalReply, Registry, stats};
use nuncio_wire::name;
use std::sync::Arc;

mod cache;

use cache::Cache;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.health_check";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    &["pass_through_mode", "cache_time", "headers"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<HealthCheck>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.health_check.`
    pub struct HealthCheckStats {
        request_total: Counter,
        ok: Counter,
        failed: Counter,
        cached_response: Counter,
        degraded: Counter,
        failed_cluster_empty: Counter,
        failed_cluster_not_found: Counter,
        failed_cluster_unhealthy: Counter,
    }
}

/// The filter.
pub struct HealthCheck {
    pass_through: bool,
    headers: Vec<HeaderMatcher>,
    cache: Option<Cache>,
    stats: HealthCheckStats,
    server: Arc<ServerState>,
    cluster: Box<str>,
}

/// What the filter knows of a stream.
#[derive(Default)]
pub struct Seen {
    health_check: bool,
}

impl HealthCheck {
    /// The answer to a health check whose request has been read to its end.
    fn answer(&self) -> LocalReply {
        self.stats.request_total().inc();
        let (mut status, mut details, mut degraded) = (200, "health_check_ok", false);
        if self.server.health_check_failed() {
            (status, details) = (503, "health_check_failed");
        } else if let Some(cache) = &self.cache {
            (status, degraded) = cache.last();
            details = "health_check_cached";
            self.stats.cached_response().inc();
        }
        let mut reply = LocalReply::new(status, "", details);
        if (200..300).contains(&status) {
            self.stats.ok().inc();
        } else {
            self.stats.failed().inc();
            reply = reply.flag(Flag::FailedLocalHealthCheck);
        }
        if degraded {
            self.stats.degraded().inc();
            reply = reply.header(name::X_ENVOY_DEGRADED, b"");
        }
        reply
    }
}

impl HttpFilter for HealthCheck {
    type Config = pb::HealthCheck;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = Seen;

    fn new(config: pb::HealthCheck, cx: &BuildCx<'_>) -> BuildResult<HealthCheck> {
        let pass_through = config.pass_through_mode.unwrap_or(false);
        let cache = Cache::new(config.cache_time.as_ref())?;
        if !pass_through && cache.is_some() {
            return Err("cache_time_ms must not be set when path_through_mode is disabled".into());
        }
        Ok(HealthCheck {
            pass_through,
            headers: HeaderMatcher::list(&config.headers)?,
            cache,
            stats: HealthCheckStats::new(&cx.scope.scope("health_check")),
            server: cx.server.state(),
            cluster: cx.node.cluster.as_str().into(),
        })
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Seen, ex: &'a mut Exchange) -> Step<'a> {
        if !matches_all(&self.headers, &ex.request) {
            return Step::Next;
        }
        st.health_check = true;
        ex.sx.info.health_check.set(true);
        let cached = || self.cache.as_ref().is_some_and(Cache::is_fresh);
        if self.pass_through && !self.server.health_check_failed() && !cached() {
            return Step::Next;
        }
        if ex.request_body.is_end() {
            return Step::Reply(Box::new(self.answer()));
        }
        // The request is read to its end before it is answered.
        Step::wait(async move {
            while let Some(frame) = ex.request_body.frame(&ex.sx).await {
                match frame {
                    Ok(_) => {}
                    Err(BodyError::Reply(r)) => return Step::Reply(r),
                    Err(BodyError::Reset(reason)) => {
                        // Nobody waits for an answer any more.
                        ex.sx.interrupt(Interrupt::Reset(reason));
                        return std::future::pending().await;
                    }
                }
            }
            Step::Reply(Box::new(self.answer()))
        })
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Seen, ex: &'a mut Exchange) -> Step<'a> {
        let Some(response) = &mut ex.response else { return Step::Next };
        if st.health_check {
            if let Some(cache) = &self.cache {
                cache.keep(response.status, response.headers.contains(name::X_ENVOY_DEGRADED));
            }
            response.headers.set(name::X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER, self.cluster.as_bytes());
        }
        if self.server.health_check_failed() {
            response.headers.set(name::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL, b"true");
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;
