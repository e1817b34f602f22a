use crate::config::root;
use crate::http::ratelimit::{METHOD, message, service, timeout};
use nuncio_api::envoy::extensions::filters::network::ratelimit::v3 as pb;
use nuncio_api::envoy::service::ratelimit::v3 as rls;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use nuncio_core::grpc::Client;
use nuncio_core::info::{ConnInfo, StreamInfo};
use nuncio_core::network_filter::{Access, NetworkFilter};
use nuncio_core::rate_limit::Descriptor;
use nuncio_core::registry::Docs;
use nuncio_core::runtime::RuntimeNumber;
use nuncio_core::{BuildResult, LocalBoxFuture, Registry, stats};
use rls::rate_limit_response::Code;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Its well-known name, and the name space of the metadata that the service returns.
pub const NAME: &str = "envoy.filters.network.ratelimit";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.network.ratelimit.v3.RateLimit",
        &["stat_prefix", "domain", "descriptors", "timeout", "failure_mode_deny", "rate_limit_service"],
    ),
    Covered::new("envoy.extensions.common.ratelimit.v3.RateLimitDescriptor", &["entries"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.network_filter::<RateLimit>(NAME, docs);
}

stats! {
    /// `ratelimit.<stat_prefix>.`
    pub struct RateLimitStats {
        total: Counter,
        error: Counter,
        over_limit: Counter,
        ok: Counter,
        cx_closed: Counter,
        failure_mode_allowed: Counter,
        active: Gauge,
    }
}

/// The filter.
pub struct RateLimit {
    client: Client,
    timeout: Option<Duration>,
    domain: String,
    /// Of each descriptor: keys, and formats of values.
    descriptors: Vec<Vec<(String, Formatter)>>,
    deny: bool,
    enabled: RuntimeNumber,
    enforcing: RuntimeNumber,
    stats: RateLimitStats,
}

impl NetworkFilter for RateLimit {
    type Config = pb::RateLimit;
    type State = ();

    fn new(c: pb::RateLimit, cx: &BuildCx<'_>) -> BuildResult<RateLimit> {
        let runtime = cx.server.runtime();
        let descriptor = |d: &nuncio_api::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor| {
            let entry =
                |e: &nuncio_api::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry| {
                    Ok((e.key.clone(), Formatter::text(&e.value, Purpose::Body)?))
                };
            d.entries.iter().map(entry).collect::<BuildResult<_>>()
        };
        Ok(RateLimit {
            client: service(c.rate_limit_service.as_ref(), cx)?,
            timeout: timeout(c.timeout.as_ref()),
            descriptors: c.descriptors.iter().map(descriptor).collect::<BuildResult<_>>()?,
            deny: c.failure_mode_deny,
            enabled: runtime.number("ratelimit.tcp_filter_enabled", 100),
            enforcing: runtime.number("ratelimit.tcp_filter_enforcing", 100),
            stats: RateLimitStats::new(&root(cx.scope).scope("ratelimit").scope(&c.stat_prefix)),
            domain: c.domain,
        })
    }
    fn admits<'a>(
        self: &'a Arc<Self>,
        (): &'a mut (),
        conn: &'a Rc<ConnInfo>,
    ) -> Option<LocalBoxFuture<'a, Access>> {
        self.enabled.percent().then(|| -> LocalBoxFuture<'a, Access> { Box::pin(self.ask(conn)) })
    }
}

/// Counts a question that is open, also one that nobody waits for any more.
struct Active<'a>(&'a RateLimitStats);

impl<'a> Active<'a> {
    fn new(stats: &'a RateLimitStats) -> Active<'a> {
        stats.active().inc();
        Active(stats)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active().dec();
    }
}

impl RateLimit {
    async fn ask(&self, conn: &ConnInfo) -> Access {
        self.stats.total().inc();
        let request = message(&self.domain, self.descriptors(conn), 0);
        let answer = {
            let _active = Active::new(&self.stats);
            self.client.unary::<rls::RateLimitResponse>(METHOD, &request, self.timeout, None).await
        };
        let Ok(answer) = answer else {
            self.stats.error().inc();
            if !self.deny {
                self.stats.failure_mode_allowed().inc();
                return Access::Granted;
            }
            self.stats.cx_closed().inc();
            return Access::Refused(Duration::ZERO, "ratelimit_error_failure_mode_connection_close");
        };
        let over = answer.overall_code() == Code::OverLimit;
        if let Some(s) = answer.dynamic_metadata.filter(|s| !s.fields.is_empty()) {
            conn.metadata.borrow_mut().merge(NAME, s);
        }
        if !over {
            self.stats.ok().inc();
            return Access::Granted;
        }
        self.stats.over_limit().inc();
        if !self.enforcing.percent() {
            return Access::Granted;
        }
        self.stats.cx_closed().inc();
        Access::Refused(Duration::ZERO, "ratelimit_close_over_limit")
    }
    fn descriptors(&self, conn: &ConnInfo) -> Vec<Descriptor> {
        let of_connection = StreamInfo { start: conn.start, ..StreamInfo::new() };
        let cx = FormatCx::new(conn.logged.get().map_or(&of_connection, |i| i), conn);
        let value = |f: &Formatter| {
            let mut text = vec![];
            f.append(&cx, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let one = |d: &Vec<(String, Formatter)>| Descriptor {
            entries: d.iter().map(|(k, f)| (k.clone(), value(f))).collect(),
            ..Default::default()
        };
        self.descriptors.iter().map(one).collect()
    }
}
