//! `RetryPolicy` as main compiles it, for a route or a virtual host.

use super::conditions::RetryOn;
use crate::proto::{self, duration};
use crate::upstream::lb::subset_config::{Criterion, criteria};
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use nuncio_api::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::matchers::HeaderMatcher;
use nuncio_core::registry::Kind;
use nuncio_wire::HeaderName;
use std::time::Duration;

/// What is read of `RetryPolicy` and of the predicates that are built in.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.RetryPolicy",
        &[
            "retry_on",
            "num_retries",
            "per_try_timeout",
            "per_try_idle_timeout",
            "retry_priority",
            "retry_host_predicate",
            "host_selection_retry_max_attempts",
            "retriable_status_codes",
            "retry_back_off",
            "rate_limited_retry_back_off",
            "retriable_headers",
            "retriable_request_headers",
        ],
    ),
    Covered::new("envoy.config.route.v3.RetryPolicy.RetryHostPredicate", &["name", "typed_config"]),
    Covered::new("envoy.config.route.v3.RetryPolicy.RetryPriority", &["name", "typed_config"]),
    Covered::new(PREVIOUS_PRIORITIES, &["update_frequency"]),
    Covered::new("envoy.config.route.v3.RetryPolicy.RetryBackOff", &["base_interval", "max_interval"]),
    Covered::new(
        "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff",
        &["reset_headers", "max_interval"],
    ),
    Covered::new("envoy.config.route.v3.RetryPolicy.ResetHeader", &["name", "format"]),
    Covered::new(Predicate::ALL[0].2, &[]),
    Covered::new(Predicate::ALL[1].2, &[]),
    Covered::new(Predicate::ALL[2].2, &["metadata_match"]),
];

/// The type of the configuration of `envoy.retry_priorities.previous_priorities`.
pub const PREVIOUS_PRIORITIES: &str =
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";

/// Predicates on hosts, as the registry holds them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Predicate {
    /// `envoy.retry_host_predicates.previous_hosts`
    PreviousHosts,
    /// `envoy.retry_host_predicates.omit_canary_hosts`
    OmitCanaryHosts,
    /// `envoy.retry_host_predicates.omit_host_metadata`
    OmitHostMetadata,
}

impl Predicate {
    /// All of them, with name, type of the configuration, and what it does.
    pub const ALL: [(Predicate, &str, &str, &str); 3] = [
        (
            Predicate::PreviousHosts,
            "envoy.retry_host_predicates.previous_hosts",
            "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            "Retries on hosts that were not tried for the request.",
        ),
        (
            Predicate::OmitCanaryHosts,
            "envoy.retry_host_predicates.omit_canary_hosts",
            "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate",
            "Retries on hosts that are no canaries.",
        ),
        (
            Predicate::OmitHostMetadata,
            "envoy.retry_host_predicates.omit_host_metadata",
            "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig",
            "Retries on hosts that do not have this metadata.",
        ),
    ];
}

/// Most hosts that are rejected in one choice, whatever `host_selection_retry_max_attempts` says.
const MOST_ATTEMPTS: i64 = 10_000;

/// A compiled `RetryPolicy`. Most have nothing but conditions and a number.
#[derive(Debug)]
pub struct RetryPolicy {
    /// `retry_on`
    pub on: RetryOn,
    /// `num_retries`, 1 by default.
    pub num_retries: u32,
    /// What most do not set.
    pub more: Option<Box<More>>,
}

/// The fields of a policy that are rarely set.
#[derive(Debug, Default)]
pub struct More {
    /// `per_try_timeout`
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`
    pub status_codes: Box<[u32]>,
    /// `retriable_headers`, of the response; one must match.
    pub headers: Vec<HeaderMatcher>,
    /// `retriable_request_headers`: nothing is retried unless one matches.
    pub request_headers: Vec<HeaderMatcher>,
    /// `retry_back_off`: first and longest interval, in milliseconds.
    pub back_off: Option<(u64, u64)>,
    /// `rate_limited_retry_back_off`
    pub rate_limited: Option<RateLimited>,
    /// `retry_host_predicate`
    pub hosts: Hosts,
    /// `retry_priority`: the `update_frequency` of `previous_priorities`.
    pub priorities_every: Option<u32>,
    /// `omit_host_metadata`: hosts that have all of one of these are kept away from.
    pub omitted: Vec<Vec<Criterion>>,
}

/// Which hosts a retry keeps away from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hosts {
    /// Those that were tried.
    pub previous: bool,
    /// Canaries.
    pub canaries: bool,
    /// `host_selection_retry_max_attempts`: how often a host is rejected; 0 stands for the default, 1.
    pub attempts: u32,
}

/// `RateLimitedRetryBackOff`: the response says when to come again.
#[derive(Debug)]
pub struct RateLimited {
    /// `reset_headers`, of which the first that makes sense counts.
    pub headers: Vec<ResetHeader>,
    /// `max_interval`, 300 s by default: longer ones are not heeded. In milliseconds.
    pub max_ms: u64,
}

/// `RetryPolicy.ResetHeader`
#[derive(Debug)]
pub struct ResetHeader {
    /// Which header.
    pub name: HeaderName,
    /// Its value is a time of day in seconds since 1970, else a number of seconds.
    pub unix_timestamp: bool,
}

impl RetryPolicy {
    /// Compiles a policy.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(c: &pb::RetryPolicy, cx: &BuildCx<'_>) -> BuildResult<RetryPolicy> {
        let some = |d: &Option<prost_types::Duration>| {
            Ok::<_, BuildError>(duration(d)?.filter(|d| d.as_millis() > 0))
        };
        let more = More {
            per_try_timeout: some(&c.per_try_timeout)?,
            per_try_idle_timeout: some(&c.per_try_idle_timeout)?,
            status_codes: c.retriable_status_codes.clone().into(),
            headers: HeaderMatcher::list(&c.retriable_headers)?,
            request_headers: HeaderMatcher::list(&c.retriable_request_headers)?,
            back_off: c.retry_back_off.as_ref().map(back_off).transpose()?,
            rate_limited: c.rate_limited_retry_back_off.as_ref().map(RateLimited::new).transpose()?,
            hosts: Hosts::default(),
            priorities_every: priorities(c, cx)?,
            omitted: vec![],
        };
        let more = hosts(c, more, cx)?;
        let set = more.per_try_timeout.is_some()
            || more.per_try_idle_timeout.is_some()
            || more.back_off.is_some()
            || more.rate_limited.is_some()
            || more.hosts.previous
            || more.hosts.canaries
            || more.priorities_every.is_some()
            || !more.omitted.is_empty()
            || !(more.status_codes.is_empty() && more.headers.is_empty() && more.request_headers.is_empty());
        Ok(RetryPolicy {
            on: RetryOn::http(&c.retry_on) | RetryOn::grpc(&c.retry_on),
            num_retries: c.num_retries.unwrap_or(1),
            more: set.then(|| Box::new(more)),
        })
    }
}

fn millis(d: &Option<prost_types::Duration>) -> BuildResult<Option<u64>> {
    Ok(duration(d)?.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX).max(1)))
}

fn back_off(b: &pb::retry_policy::RetryBackOff) -> BuildResult<(u64, u64)> {
    let base = millis(&b.base_interval)?.unwrap_or(1); // required, so validation has seen it
    let max = millis(&b.max_interval)?.unwrap_or(base.saturating_mul(10));
    if max < base {
        return Err("retry_policy.max_interval must greater than or equal to the base_interval".into());
    }
    Ok((base, max))
}

impl RateLimited {
    fn new(c: &pb::retry_policy::RateLimitedRetryBackOff) -> BuildResult<RateLimited> {
        let header = |h: &pb::retry_policy::ResetHeader| ResetHeader {
            name: HeaderName::new(&h.name),
            unix_timestamp: h.format == pb::retry_policy::ResetHeaderFormat::UnixTimestamp as i32,
        };
        Ok(RateLimited {
            headers: c.reset_headers.iter().map(header).collect(),
            max_ms: millis(&c.max_interval)?.unwrap_or(300_000),
        })
    }
}

fn priorities(c: &pb::RetryPolicy, cx: &BuildCx<'_>) -> BuildResult<Option<u32>> {
    use pb::retry_policy::retry_priority::ConfigType::TypedConfig;
    let Some(p) = &c.retry_priority else { return Ok(None) };
    let Some(TypedConfig(any)) = &p.config_type else {
        return Err(nuncio_api::extensions::unregistered(&p.name, "").into());
    };
    cx.registry.find::<()>(Kind::RetryPriority, &p.name, &any.type_url)?;
    let c: PreviousPrioritiesConfig = proto::unpack(any)?;
    Ok(Some(c.update_frequency.max(1) as u32)) // validation has seen that it is
}

fn hosts(c: &pb::RetryPolicy, mut more: More, cx: &BuildCx<'_>) -> BuildResult<More> {
    let attempts = c.host_selection_retry_max_attempts;
    let hosts = &mut more.hosts;
    // Envoy keeps the low 32 bits.
    hosts.attempts = attempts.rem_euclid(1 << 32).min(MOST_ATTEMPTS) as u32;
    for p in &c.retry_host_predicate {
        use pb::retry_policy::retry_host_predicate::ConfigType::TypedConfig;
        let ty = match &p.config_type {
            Some(TypedConfig(any)) => any.type_url.as_str(),
            None => "",
        };
        match cx.registry.find(Kind::RetryHostPredicate, &p.name, ty)? {
            Predicate::PreviousHosts => hosts.previous = true,
            Predicate::OmitCanaryHosts => hosts.canaries = true,
            Predicate::OmitHostMetadata => {
                let Some(TypedConfig(any)) = &p.config_type else { continue };
                let config: OmitHostMetadataConfig = proto::unpack(any)?;
                let metadata = config.metadata_match.and_then(|m| m.filter_metadata.get("envoy.lb").cloned());
                more.omitted.push(criteria(&metadata.unwrap_or_default()));
            }
        }
    }
    Ok(more)
}
