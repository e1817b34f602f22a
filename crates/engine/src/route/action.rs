//! What a route does: forward to a cluster, redirect, or answer itself.

use super::headers::HeaderRules;
use super::replies::{self, DirectResponse, Redirect};
use super::specifier::{self, Specifier};
use super::{VirtualHostShared, matching, per_filter};
use crate::http::timers::{MaxDuration, RouteTimers};
use crate::proto::duration;
use crate::router::redirect::{self, RedirectPolicy};
use crate::router::retry::RetryPolicy;
use crate::router::shadow::{self, ShadowPolicies};
use crate::upstream::lb::hash_policy::{self, HashPolicy};
use crate::upstream::lb::subset::NAMESPACE;
use crate::upstream::lb::subset_config::{Criterion, criteria, merged};
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::StreamShared;
use nuncio_core::rate_limit::{Place, Policy};
use nuncio_core::route::PerFilter;
use nuncio_core::runtime::RuntimeNumber;
use nuncio_wire::{HeaderName, RequestHead};
use pb::route_action::ClusterSpecifier;
use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What is read of the action messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.RouteAction",
        &[
            "cluster",
            "cluster_header",
            "inline_cluster_specifier_plugin",
            "cluster_specifier_plugin",
            "weighted_clusters",
            "cluster_not_found_response_code",
            "prefix_rewrite",
            "regex_rewrite",
            "host_rewrite_literal",
            "host_rewrite",
            "path_rewrite",
            "auto_host_rewrite",
            "host_rewrite_header",
            "host_rewrite_path_regex",
            "append_x_forwarded_host",
            "timeout",
            "idle_timeout",
            "flush_timeout",
            "max_stream_duration",
            "priority",
            "retry_policy",
            "hedge_policy",
            "upgrade_configs",
            "hash_policy",
            "metadata_match",
            "request_mirror_policies",
            "max_grpc_timeout",
            "grpc_timeout_offset",
            "path_rewrite_policy",
            "rate_limits",
            "include_vh_rate_limits",
            "internal_redirect_policy",
            "internal_redirect_action",
            "max_internal_redirects",
        ],
    ),
    Covered::new(
        "envoy.config.route.v3.RouteAction.UpgradeConfig",
        &["upgrade_type", "enabled", "connect_config"],
    ),
    Covered::new("envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig", &["allow_post"]),
    Covered::new(
        "envoy.config.route.v3.RouteAction.MaxStreamDuration",
        &["max_stream_duration", "grpc_timeout_header_max", "grpc_timeout_header_offset"],
    ),
    Covered::new(
        "envoy.config.route.v3.WeightedCluster",
        &["clusters", "total_weight", "header_name", "use_hash_policy", "runtime_key_prefix"],
    ),
    Covered::new(
        "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        &[
            "name",
            "cluster_header",
            "weight",
            "host_rewrite_literal",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "typed_per_filter_config",
            "metadata_match",
        ],
    ),
    // Envoy reads the first two and does nothing with them.
    Covered::new(
        "envoy.config.route.v3.HedgePolicy",
        &["initial_requests", "additional_request_chance", "hedge_on_per_try_timeout"],
    ),
];

/// What to do with a request.
pub enum Action {
    /// Forward it.
    Cluster(Box<ClusterRoute>),
    /// Send the client elsewhere.
    Redirect(Box<Redirect>),
    /// Answer it.
    Direct(Box<DirectResponse>),
    /// For listeners that forward nothing (`non_forwarding_action`).
    NonForwarding,
}

/// Forwarding.
pub struct ClusterRoute {
    target: Target,
    /// `timeout`, 15 s by default; `None` is no limit.
    pub timeout: Option<Duration>,
    /// `idle_timeout` and `max_stream_duration`, when one is set.
    timers: Option<RouteTimers>,
    /// `retry_policy`, or the virtual host's.
    pub retry: Option<Arc<RetryPolicy>>,
    /// `hedge_policy`, or the virtual host's: a try that takes too long is not given up.
    pub hedge: bool,
    /// `request_body_buffer_limit` and its like: how much of a request is kept to send it again, in bytes.
    pub buffer_limit: Option<u64>,
    /// `upgrade_configs`: which upgrades are allowed or forbidden.
    upgrades: Vec<(String, bool)>,
    /// `connect_config`: CONNECT ends here; its `allow_post`.
    connect: Option<bool>,
    /// `hash_policy`
    pub hash_policy: Option<HashPolicy>,
    /// `metadata_match`, of the name space `envoy.lb`.
    metadata_match: Option<Box<[Criterion]>>,
    /// `max_grpc_timeout` and `grpc_timeout_offset`, where `max_stream_duration` does not replace them: gRPC requests say
    /// their timeout themselves.
    pub grpc: Option<GrpcTimeout>,
    /// `internal_redirect_policy`
    pub redirects: Option<Box<RedirectPolicy>>,
    /// `request_mirror_policies`
    pub shadows: Option<ShadowPolicies>,
    /// `rate_limits` and `include_vh_rate_limits`, when there are any.
    pub rate_limits: Option<Box<(Box<[Policy]>, bool)>>,
    /// Index of the circuit breakers: 0 default, 1 high.
    pub priority: usize,
    /// Status when the cluster does not exist.
    pub cluster_not_found_status: u16,
    /// `include_request_attempt_count` of the virtual host.
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response` of the virtual host.
    pub include_attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header` of the virtual host.
    pub include_is_timeout_retry: bool,
}

/// How a gRPC request's `grpc-timeout` becomes the timeout of the request.
#[derive(Clone, Copy, Debug)]
pub struct GrpcTimeout {
    /// The longest; zero is no limit.
    pub max: Duration,
    /// Taken off, unless nothing would be left.
    pub offset: Duration,
}

impl GrpcTimeout {
    /// The timeout of a request that asks for `asked`; zero is none.
    pub fn of(self, asked: Option<Duration>) -> Duration {
        let asked = asked.unwrap_or_default();
        let t = if self.offset < asked { asked - self.offset } else { asked };
        if !self.max.is_zero() && (t.is_zero() || t > self.max) { self.max } else { t }
    }
}

enum Target {
    Cluster(String),
    Header(HeaderName),
    Weighted {
        random: Random,
        all: Vec<Weighted>,
    },
    /// A tree says (`MatcherClusterSpecifier`).
    Matcher(Arc<Specifier>),
}

/// Where the number comes from that chooses among clusters with weights.
enum Random {
    /// The stream has one.
    Stream,
    /// `header_name`
    Header(HeaderName),
    /// `use_hash_policy`: the route's `hash_policy`.
    Hash,
}

/// One of several clusters.
pub struct Weighted {
    cluster: Result<String, HeaderName>,
    weight: RuntimeNumber,
    /// `host_rewrite_literal`; empty: none.
    pub host: Box<[u8]>,
    /// Its header rules.
    pub headers: HeaderRules,
    /// Its configs of filters.
    pub per_filter: PerFilter,
    /// Its `metadata_match` and what that leaves of the route's.
    metadata_match: Option<Box<[Criterion]>>,
}

impl Action {
    /// Compiles a route's action.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(
        r: &pb::Route,
        host: &VirtualHostShared,
        max_body: usize,
        validate: bool,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Action> {
        match &r.action {
            Some(pb::route::Action::Route(a)) => {
                let mut c = ClusterRoute::new(a, host, validate, cx)?;
                // The virtual host's limit, of either name, is preferred to what the deprecated field of the route says.
                c.buffer_limit = r
                    .request_body_buffer_limit
                    .or(host.buffer_limit)
                    .or(r.per_request_buffer_limit_bytes.map(u64::from));
                c.redirects = RedirectPolicy::of(a, &r.name)?.map(Box::new);
                Ok(Action::Cluster(Box::new(c)))
            }
            Some(pb::route::Action::Redirect(a)) => Ok(Action::Redirect(Box::new(Redirect::new(a, r)?))),
            Some(pb::route::Action::DirectResponse(a)) => {
                Ok(Action::Direct(Box::new(DirectResponse::new(a, max_body)?)))
            }
            Some(pb::route::Action::NonForwardingAction(_)) => Ok(Action::NonForwarding),
            Some(pb::route::Action::FilterAction(_)) => {
                Err(BuildError::not_implemented("Route.filter_action"))
            }
            None => Err("field: \"action\", reason: is required".into()),
        }
    }
    /// The timers of the route's streams, when it has any of its own.
    pub fn timers(&self) -> Option<&RouteTimers> {
        match self {
            Action::Cluster(c) => c.timers.as_ref(),
            _ => None,
        }
    }
    /// The weighted cluster chosen for a stream.
    pub fn chosen(&self, sx: &StreamShared) -> Option<&Weighted> {
        match self {
            Action::Cluster(c) => match &c.target {
                Target::Weighted { all, .. } => weighted(all, sx.info.random.get()),
                _ => None,
            },
            _ => None,
        }
    }
    /// Some weighted cluster configures filters.
    pub fn has_filter_configs(&self) -> bool {
        match self {
            Action::Cluster(c) => {
                matches!(&c.target, Target::Weighted { all, .. } if all.iter().any(|w| !w.per_filter.is_empty()))
            }
            _ => false,
        }
    }
}

fn timers(a: &pb::RouteAction) -> BuildResult<Option<RouteTimers>> {
    let t = RouteTimers {
        idle: duration(&a.idle_timeout)?,
        flush: duration(&a.flush_timeout)?,
        duration: match &a.max_stream_duration {
            None => None,
            Some(d) => Some(MaxDuration {
                limit: duration(&d.max_stream_duration)?,
                grpc_max: duration(&d.grpc_timeout_header_max)?,
                grpc_offset: duration(&d.grpc_timeout_header_offset)?,
            }),
        },
    };
    Ok((t.idle.is_some() || t.flush.is_some() || t.duration.is_some()).then_some(t))
}

fn upgrades(a: &pb::RouteAction) -> BuildResult<Vec<(String, bool)>> {
    let mut all: Vec<(String, bool)> = vec![];
    for u in &a.upgrade_configs {
        if all.iter().any(|(kind, _)| kind.eq_ignore_ascii_case(&u.upgrade_type)) {
            return Err(format!("Duplicate upgrade {}", u.upgrade_type).into());
        }
        all.push((u.upgrade_type.clone(), u.enabled.unwrap_or(true)));
    }
    Ok(all)
}

fn connect(a: &pb::RouteAction) -> BuildResult<Option<bool>> {
    let mut found = None;
    for u in &a.upgrade_configs {
        let Some(c) = &u.connect_config else { continue };
        if u.upgrade_type != "CONNECT" {
            return Err(format!("Non-CONNECT upgrade type {} has ConnectConfig", u.upgrade_type).into());
        }
        found = Some(c.allow_post);
    }
    Ok(found)
}

fn weighted(all: &[Weighted], random: u64) -> Option<&Weighted> {
    let total = all.iter().map(|w| w.weight.get()).fold(0, u64::saturating_add);
    let mut point = random.checked_rem(total)?;
    all.iter().find(|w| match point.checked_sub(w.weight.get()) {
        Some(rest) => {
            point = rest;
            false
        }
        None => true,
    })
}

impl ClusterRoute {
    fn new(
        a: &pb::RouteAction,
        host: &VirtualHostShared,
        validate: bool,
        cx: &BuildCx<'_>,
    ) -> BuildResult<ClusterRoute> {
        let known = |name: &str| match !validate || cx.server.has_cluster(name) {
            true => Ok(name.to_owned()),
            false => Err(BuildError(format!("route: unknown cluster '{name}'"))),
        };
        let target = match &a.cluster_specifier {
            Some(ClusterSpecifier::Cluster(c)) => Target::Cluster(known(c)?),
            Some(ClusterSpecifier::ClusterHeader(h)) => Target::Header(HeaderName::new(h)),
            Some(ClusterSpecifier::WeightedClusters(w)) => {
                weighted_clusters(w, a.metadata_match.as_ref(), &known, cx)?
            }
            Some(ClusterSpecifier::InlineClusterSpecifierPlugin(p)) => {
                Target::Matcher(Specifier::new(p)?.unwrap_or_default())
            }
            Some(ClusterSpecifier::ClusterSpecifierPlugin(name)) => {
                Target::Matcher(host.config.specifier(name)?)
            }
            None => return Err("field: \"cluster_specifier\", reason: is required".into()),
        };
        Ok(ClusterRoute {
            target,
            timeout: match &a.timeout {
                _ if a.max_stream_duration.is_some() => None, // it replaces `timeout`
                None => Some(Duration::from_secs(15)),
                some => duration(some)?.filter(|d| !d.is_zero()),
            },
            timers: timers(a)?,
            retry: match &a.retry_policy {
                Some(p) => Some(Arc::new(RetryPolicy::new(p, cx)?)),
                None => host.retry.clone(),
            },
            hedge: a.hedge_policy.as_ref().map_or(host.hedge, |p| p.hedge_on_per_try_timeout),
            rate_limits: match (&*a.rate_limits, a.include_vh_rate_limits.unwrap_or(false)) {
                ([], false) => None,
                (all, include) => Some(Box::new((Policy::list(all, Place::Route, cx)?, include))),
            },
            buffer_limit: None,
            redirects: None,
            upgrades: upgrades(a)?,
            connect: connect(a)?,
            hash_policy: HashPolicy::new(&a.hash_policy)?,
            metadata_match: criteria_of(a.metadata_match.as_ref(), None),
            grpc: match duration(&a.max_grpc_timeout)? {
                Some(max) if a.max_stream_duration.is_none() => {
                    Some(GrpcTimeout { max, offset: duration(&a.grpc_timeout_offset)?.unwrap_or_default() })
                }
                _ => None,
            },
            shadows: shadow::policies(&a.request_mirror_policies, host.shadows.as_ref(), validate, cx)?,
            priority: usize::from(a.priority == 1),
            cluster_not_found_status: match a.cluster_not_found_response_code {
                1 => 404,
                2 => 500,
                _ => 503,
            },
            include_request_attempt_count: host.include_request_attempt_count,
            include_attempt_count_in_response: host.include_attempt_count_in_response,
            include_is_timeout_retry: host.include_is_timeout_retry,
        })
    }
    /// The metadata a host must have.
    pub fn metadata_match(&self, sx: &StreamShared) -> Option<&[Criterion]> {
        match &self.target {
            Target::Weighted { all, .. } => weighted(all, sx.info.random.get())?.metadata_match.as_deref(),
            _ => self.metadata_match.as_deref(),
        }
    }
    /// The request's body is what the host is to get, and no more (`connect_config`).
    #[inline]
    pub fn ends_connect(&self, head: &RequestHead) -> bool {
        self.connect.is_some_and(|post| head.is_connect() || (post && head.method() == b"POST"))
    }
    /// Whether the route allows or forbids an upgrade; `None`: it says nothing about it.
    pub fn upgrade(&self, kind: &[u8]) -> Option<bool> {
        self.upgrades.iter().find(|u| kind.eq_ignore_ascii_case(u.0.as_bytes())).map(|u| u.1)
    }
    /// Takes the random number from where it is said to be (`WeightedCluster.random_value_specifier`).
    pub fn take_random(&self, head: &RequestHead, sx: &StreamShared) {
        let Target::Weighted { random, .. } = &self.target else { return };
        let number = match random {
            Random::Stream => None,
            Random::Header(h) if head.headers.get_all(h).count() == 1 => {
                head.headers.get_str(h).and_then(|v| v.parse().ok())
            }
            Random::Header(_) => None,
            Random::Hash => self.hash_policy.as_ref().and_then(|p| p.hash_without_cookies(head, sx)),
        };
        if let Some(n) = number {
            sx.info.random.set(n);
        }
    }
    /// The cluster for a request; empty when a header should name it and does not, `None` when the runtime has taken all
    /// weight away.
    pub fn cluster_name<'a>(&'a self, head: &'a RequestHead, sx: &StreamShared) -> Option<Cow<'a, str>> {
        let by_header = |h: &HeaderName| Some(Cow::Borrowed(head.headers.get_str(h).unwrap_or_default()));
        match &self.target {
            Target::Cluster(c) => Some(Cow::Borrowed(c)),
            Target::Header(h) => by_header(h),
            Target::Matcher(m) => Some(Cow::Borrowed(m.cluster(head, sx))),
            Target::Weighted { all, .. } => {
                self.take_random(head, sx);
                match &weighted(all, sx.info.random.get())?.cluster {
                    Ok(c) => Some(Cow::Borrowed(c)),
                    Err(h) => by_header(h),
                }
            }
        }
    }
}

/// What `m` asks for in the name space `envoy.lb`, after what `base` does.
pub fn criteria_of(m: Option<&core::Metadata>, base: Option<&core::Metadata>) -> Option<Box<[Criterion]>> {
    let of = |m: Option<&core::Metadata>| m?.filter_metadata.get(NAMESPACE).map(criteria);
    match (of(base), of(m)) {
        (Some(base), Some(more)) => Some(merged(&base, &more).into()),
        (one, other) => one.or(other).map(Vec::into_boxed_slice),
    }
}

fn weighted_clusters(
    w: &pb::WeightedCluster,
    metadata_match: Option<&core::Metadata>,
    known: &dyn Fn(&str) -> BuildResult<String>,
    cx: &BuildCx<'_>,
) -> BuildResult<Target> {
    let weight = |c: &pb::weighted_cluster::ClusterWeight| {
        let configured = c.weight.unwrap_or(0).into();
        match w.runtime_key_prefix.is_empty() {
            true => RuntimeNumber::fixed(configured),
            false => cx.server.runtime().number(&format!("{}.{}", w.runtime_key_prefix, c.name), configured),
        }
    };
    let all = w.clusters.iter().map(|c| {
        Ok(Weighted {
            cluster: match c.name.is_empty() {
                true => Err(HeaderName::new(&c.cluster_header)),
                false => Ok(known(&c.name)?),
            },
            weight: weight(c),
            host: match &c.host_rewrite_specifier {
                Some(HostRewriteSpecifier::HostRewriteLiteral(h)) => h.as_bytes().into(),
                None => Box::default(),
            },
            headers: HeaderRules::new(
                &c.request_headers_to_add,
                &c.request_headers_to_remove,
                &c.response_headers_to_add,
                &c.response_headers_to_remove,
            )?,
            per_filter: per_filter(&c.typed_per_filter_config, cx)?,
            metadata_match: criteria_of(c.metadata_match.as_ref(), metadata_match),
        })
    });
    let all = all.collect::<BuildResult<Vec<Weighted>>>()?;
    let total = all.iter().map(|w| w.weight.get()).fold(0, u64::saturating_add);
    if total == 0 {
        return Err("Sum of weights in the weighted_cluster must be greater than 0.".into());
    }
    if total > u64::from(u32::MAX) {
        return Err("The sum of weights of all weighted clusters of route exceeds 4294967295".into());
    }
    use pb::weighted_cluster::RandomValueSpecifier as R;
    let random = match &w.random_value_specifier {
        Some(R::HeaderName(h)) => Random::Header(HeaderName::new(h)),
        Some(R::UseHashPolicy(true)) => Random::Hash,
        Some(R::UseHashPolicy(false)) | None => Random::Stream,
    };
    Ok(Target::Weighted { random, all })
}

/// The parts of `COVERED` that other files of the folder hold.
pub fn covered() -> impl Iterator<Item = &'static Covered> {
    super::COVERED
        .iter()
        .chain(COVERED)
        .chain(matching::COVERED)
        .chain(super::headers::COVERED)
        .chain(super::virtual_clusters::COVERED)
        .chain(super::rewrite::COVERED)
        .chain(specifier::COVERED)
        .chain(replies::COVERED)
        .chain(super::tracing::COVERED)
        .chain(redirect::COVERED)
        .chain(crate::router::retry::policy::COVERED)
        .chain(crate::router::filters::COVERED)
        .chain(hash_policy::COVERED)
        .chain(shadow::COVERED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_grpc_requests() {
        let of = |max, offset, asked: Option<u64>| {
            let g = GrpcTimeout { max: Duration::from_millis(max), offset: Duration::from_millis(offset) };
            g.of(asked.map(Duration::from_millis)).as_millis()
        };
        assert_eq!((of(2000, 500, Some(1000)), of(2000, 500, Some(9000))), (500, 2000));
        assert_eq!((of(2000, 500, Some(100)), of(2000, 500, None)), (100, 2000));
        assert_eq!((of(0, 0, None), of(0, 0, Some(9000))), (0, 9000));
    }
}
