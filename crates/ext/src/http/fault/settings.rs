//! What to inject, how often, and for which requests.

use crate::config::{millis, percent};
use nuncio_api::envoy::extensions::filters::common::fault::v3 as common;
use nuncio_api::envoy::extensions::filters::http::fault::v3 as pb;
use nuncio_core::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::matchers::{FractionalPercent, HeaderMatcher};
use nuncio_core::runtime::{RuntimeFraction, RuntimeNumber};
use nuncio_wire::HeaderMap;
use std::time::Duration;

/// A value that is configured, or that a header of the request gives.
pub enum Given<T> {
    /// Configured.
    Fixed(T),
    /// From the header.
    Header,
}

/// How often: the configured percentage, which a header may lower where the fault is controlled by headers.
pub struct Percentage {
    configured: FractionalPercent,
    header: Option<&'static str>,
}

impl Percentage {
    fn new<T>(
        p: Option<&nuncio_api::envoy::r#type::v3::FractionalPercent>,
        given: &Given<T>,
        header: &'static str,
    ) -> Percentage {
        let header = matches!(given, Given::Header).then_some(header);
        Percentage { configured: percent(p), header }
    }
    /// The percentage for a request.
    pub fn of(&self, headers: &HeaderMap) -> FractionalPercent {
        match self.header.and_then(|h| number(headers, h)).and_then(|n| u32::try_from(n).ok()) {
            Some(n) => FractionalPercent { numerator: n.min(self.configured.numerator), ..self.configured },
            None => self.configured,
        }
    }
}

/// The first value of a header as a number.
pub fn number(headers: &HeaderMap, name: &'static str) -> Option<u64> {
    headers.get_str(name)?.trim().parse().ok()
}

/// A status to abort with.
pub enum Status {
    /// HTTP.
    Http(u16),
    /// gRPC.
    Grpc(u32),
}

/// `HTTPFault.delay`
pub struct Delay {
    /// For how long.
    pub duration: Given<Duration>,
    /// How often.
    pub percentage: Percentage,
}

impl Delay {
    fn new(d: &common::FaultDelay) -> Delay {
        use common::fault_delay::FaultDelaySecifier as S;
        let duration = match &d.fault_delay_secifier {
            Some(S::FixedDelay(d)) => Given::Fixed(millis(Some(d)).unwrap_or_default()),
            // Validation wants one of the two.
            Some(S::HeaderDelay(_)) | None => Given::Header,
        };
        let percentage =
            Percentage::new(d.percentage.as_ref(), &duration, "x-envoy-fault-delay-request-percentage");
        Delay { duration, percentage }
    }
    /// The delay for a request, in milliseconds.
    pub fn millis(&self, headers: &HeaderMap) -> Option<u64> {
        match self.duration {
            Given::Fixed(d) => Some(d.as_millis() as u64),
            Given::Header => number(headers, "x-envoy-fault-delay-request"),
        }
    }
}

/// `HTTPFault.abort`
pub struct Abort {
    /// With which status.
    pub status: Given<Status>,
    /// How often.
    pub percentage: Percentage,
    /// `response_body`
    pub body: Option<String>,
}

impl Abort {
    fn new(a: &pb::FaultAbort) -> Abort {
        use pb::fault_abort::ErrorType as E;
        let status = match &a.error_type {
            Some(E::HttpStatus(s)) => Given::Fixed(Status::Http(*s as u16)),
            Some(E::GrpcStatus(s)) => Given::Fixed(Status::Grpc(*s)),
            Some(E::HeaderAbort(_)) | None => Given::Header,
        };
        let percentage =
            Percentage::new(a.percentage.as_ref(), &status, "x-envoy-fault-abort-request-percentage");
        let body = Some(a.response_body.clone()).filter(|b| !b.is_empty());
        Abort { status, percentage, body }
    }
    /// The status for a request.
    pub fn status(&self, headers: &HeaderMap) -> Option<Status> {
        match self.status {
            Given::Fixed(Status::Http(s)) => Some(Status::Http(s)),
            Given::Fixed(Status::Grpc(s)) => Some(Status::Grpc(s)),
            Given::Header => {
                let http = number(headers, "x-envoy-fault-abort-request").filter(|s| (200..600).contains(s));
                let grpc = || number(headers, "x-envoy-fault-abort-grpc-request");
                http.map(|s| Status::Http(s as u16)).or_else(|| grpc().map(|s| Status::Grpc(s as u32)))
            }
        }
    }
}

/// `HTTPFault.response_rate_limit`
pub struct RateLimit {
    /// KiB per second.
    pub limit: Given<u64>,
    /// How often.
    pub percentage: Percentage,
}

impl RateLimit {
    fn new(l: &common::FaultRateLimit) -> RateLimit {
        use common::fault_rate_limit::LimitType as L;
        let limit = match &l.limit_type {
            Some(L::FixedLimit(f)) => Given::Fixed(f.limit_kbps),
            Some(L::HeaderLimit(_)) | None => Given::Header,
        };
        let percentage =
            Percentage::new(l.percentage.as_ref(), &limit, "x-envoy-fault-throughput-response-percentage");
        RateLimit { limit, percentage }
    }
    /// The limit for a request.
    pub fn kib(&self, headers: &HeaderMap) -> Option<u64> {
        match self.limit {
            Given::Fixed(l) => Some(l),
            Given::Header => number(headers, "x-envoy-fault-throughput-response").filter(|l| *l > 0),
        }
    }
}

/// The runtime's say.
pub struct Runtime {
    /// `delay_percent_runtime`
    pub delay_percent: RuntimeFraction,
    /// `abort_percent_runtime`
    pub abort_percent: RuntimeFraction,
    /// `delay_duration_runtime`, in milliseconds.
    pub delay_duration: RuntimeNumber,
    /// `abort_http_status_runtime`
    pub http_status: RuntimeNumber,
    /// `abort_grpc_status_runtime`
    pub grpc_status: RuntimeNumber,
    /// `max_active_faults_runtime`
    pub max_active: RuntimeNumber,
    /// `response_rate_limit_percent_runtime`
    pub rate_percent: RuntimeFraction,
}

/// The faults of the filter, or of a route.
pub struct Settings {
    /// Delay of requests.
    pub delay: Option<Delay>,
    /// Local answer.
    pub abort: Option<Abort>,
    /// Slow response.
    pub rate: Option<RateLimit>,
    /// The runtime's say.
    pub runtime: Runtime,
    /// Only requests that go to this cluster; empty is any.
    pub cluster: String,
    /// Only requests from these nodes (`x-envoy-downstream-service-node`).
    pub nodes: Vec<String>,
    /// Only requests with these headers.
    pub headers: Vec<HeaderMatcher>,
    /// No stats per downstream cluster.
    pub no_cluster_stats: bool,
    /// `filter_metadata`
    pub metadata: prost_types::Struct,
}

impl Settings {
    /// From configuration.
    ///
    /// # Errors
    /// A matcher that does not compile.
    pub fn new(c: pb::HttpFault, cx: &BuildCx<'_>) -> BuildResult<Settings> {
        let runtime = cx.server.runtime();
        let key =
            |k: &String, default: &'static str| if k.is_empty() { default.to_owned() } else { k.clone() };
        let fraction = |k: &String, default| runtime.fraction(&key(k, default), FractionalPercent::NEVER);
        let number = |k: &String, default, n| runtime.number(&key(k, default), n);
        Ok(Settings {
            delay: c.delay.as_ref().map(Delay::new),
            abort: c.abort.as_ref().map(Abort::new),
            rate: c.response_rate_limit.as_ref().map(RateLimit::new),
            runtime: Runtime {
                delay_percent: fraction(&c.delay_percent_runtime, "fault.http.delay.fixed_delay_percent"),
                abort_percent: fraction(&c.abort_percent_runtime, "fault.http.abort.abort_percent"),
                delay_duration: number(&c.delay_duration_runtime, "fault.http.delay.fixed_duration_ms", 0),
                http_status: number(&c.abort_http_status_runtime, "fault.http.abort.http_status", 0),
                grpc_status: number(&c.abort_grpc_status_runtime, "fault.http.abort.grpc_status", 0),
                max_active: number(
                    &c.max_active_faults_runtime,
                    "fault.http.max_active_faults",
                    c.max_active_faults.map_or(u64::MAX, u64::from),
                ),
                rate_percent: fraction(
                    &c.response_rate_limit_percent_runtime,
                    "fault.http.rate_limit.response_percent",
                ),
            },
            cluster: c.upstream_cluster,
            nodes: c.downstream_nodes,
            headers: HeaderMatcher::list(&c.headers)?,
            no_cluster_stats: c.disable_downstream_cluster_stats,
            metadata: c.filter_metadata.unwrap_or_default(),
        })
    }
}
