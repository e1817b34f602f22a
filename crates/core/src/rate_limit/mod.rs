//! Rate limits of requests: descriptors, as `RateLimit` (`envoy.config.route.v3`) makes them of a request. Routes,
//! virtual hosts and filters have them; the filters for global and local rate limits use them.

mod action;

use crate::coverage::Covered;
use crate::filter::BuildCx;
use crate::format::{HeaderFormatter, request_cx};
use crate::route::Route;
use crate::runtime::RuntimeNumber;
use crate::{BuildError, BuildResult, Exchange};
use action::{Action, metadata_key};
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::r#type::v3::RateLimitUnit;
use pb::rate_limit::r#override::OverrideSpecifier;
use prost_types::value::Kind;

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.RateLimit",
        &["stage", "disable_key", "actions", "limit", "hits_addend", "apply_on_stream_done"],
    ),
    Covered::new("envoy.config.route.v3.RateLimit.HitsAddend", &["number", "format"]),
    Covered::new("envoy.config.route.v3.RateLimit.Override", &["dynamic_metadata", "rate_limit"]),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action",
        &[
            "source_cluster",
            "destination_cluster",
            "request_headers",
            "query_parameters",
            "remote_address",
            "generic_key",
            "header_value_match",
            "dynamic_metadata",
            "metadata",
            "extension",
            "masked_remote_address",
            "query_parameter_value_match",
            "remote_address_match",
        ],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.RequestHeaders",
        &["header_name", "descriptor_key", "skip_if_absent"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.QueryParameters",
        &["query_parameter_name", "descriptor_key", "skip_if_absent"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.MaskedRemoteAddress",
        &["v4_prefix_mask_len", "v6_prefix_mask_len"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.GenericKey",
        &["descriptor_value", "default_value", "descriptor_key"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch",
        &["descriptor_value", "default_value", "descriptor_key", "expect_match", "headers"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch",
        &["descriptor_value", "default_value", "descriptor_key", "expect_match", "query_parameters"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.MetaData",
        &["descriptor_key", "metadata_key", "default_value", "source", "skip_if_absent"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.DynamicMetaData",
        &["descriptor_key", "metadata_key", "default_value"],
    ),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Action.RemoteAddressMatch",
        &["descriptor_value", "descriptor_key", "default_value", "address_matcher"],
    ),
    Covered::new("envoy.config.route.v3.RateLimit.Override.DynamicMetadata", &["metadata_key"]),
    Covered::new(
        "envoy.config.route.v3.RateLimit.Override.RateLimitOverride",
        &["requests_per_unit", "unit"],
    ),
];

/// Key and value.
pub type Entry = (String, String);

/// What a policy makes of a request.
#[derive(Debug, Default, PartialEq)]
pub struct Descriptor {
    /// In the order of the actions.
    pub entries: Vec<Entry>,
    /// `hits_addend`, when the policy has one.
    pub hits: Option<u64>,
    /// Another limit than the service's own: requests per unit (`envoy.type.v3.RateLimitUnit`).
    pub limit: Option<(u32, i32)>,
}

/// Where a policy stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Of a route or a virtual host.
    Route,
    /// Of a filter, or of a filter's config of a route.
    Filter,
    /// As `Filter`, of one that has no use for `limit`.
    FilterWithoutLimit,
}

/// Of `hits_addend`.
const MAX_HITS: f64 = 1e9;

/// One `RateLimit`: a list of actions that make one descriptor.
pub struct Policy {
    actions: Box<[Action]>,
    hits: Hits,
    limit: Limit,
    stage: u32,
    /// `disable_key`: in how many of a hundred requests it holds.
    enabled: Option<RuntimeNumber>,
    on_stream_done: bool,
}

enum Hits {
    None,
    Fixed(u64),
    Format(HeaderFormatter),
}

enum Limit {
    None,
    Fixed(u32, i32),
    /// A struct of `requests_per_unit` and `unit`.
    Metadata(String, Vec<String>),
}

impl Policy {
    /// From configuration.
    ///
    /// # Errors
    /// A field or an action that cannot stand in that place, a bad format or matcher.
    pub fn new(r: &pb::RateLimit, place: Place, cx: &BuildCx<'_>) -> BuildResult<Policy> {
        // On routes Envoy passes over `hits_addend`.
        let hits = if place == Place::Route { Hits::None } else { Hits::new(r)? };
        if place != Place::Route && (r.stage.is_some() || !r.disable_key.is_empty()) {
            return Err("'stage' field and 'disable_key' field are not supported".into());
        }
        if place == Place::FilterWithoutLimit && r.limit.is_some() {
            return Err("'limit' field is not supported".into());
        }
        let enabled = (!r.disable_key.is_empty()).then(|| {
            cx.server.runtime().number(&format!("ratelimit.{}.http_filter_enabled", r.disable_key), 100)
        });
        Ok(Policy {
            actions: r.actions.iter().map(|a| Action::new(a, place, cx)).collect::<BuildResult<_>>()?,
            hits,
            limit: Limit::new(r)?,
            stage: r.stage.unwrap_or(0),
            enabled,
            on_stream_done: r.apply_on_stream_done,
        })
    }
    /// The policies of a list.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn list(all: &[pb::RateLimit], place: Place, cx: &BuildCx<'_>) -> BuildResult<Box<[Policy]>> {
        all.iter().map(|r| Policy::new(r, place, cx)).collect()
    }
    /// `apply_on_stream_done`: it holds when the stream is over, not before.
    pub fn on_stream_done(&self) -> bool {
        self.on_stream_done
    }
    /// It has a `disable_key`.
    pub fn has_disable_key(&self) -> bool {
        self.enabled.is_some()
    }
    /// The runtime has not switched it off (`disable_key`).
    pub fn enabled(&self) -> bool {
        self.enabled.as_ref().is_none_or(RuntimeNumber::percent)
    }
    /// The descriptor of a request, unless an action says that there is none.
    pub fn descriptor(&self, ex: &Exchange) -> Option<Descriptor> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for a in &self.actions {
            // An action that is skipped adds nothing; one that fails ends it.
            entries.extend(a.entry(ex)?);
        }
        Some(Descriptor { entries, hits: self.hits.of(ex)?, limit: self.limit.of(ex) })
    }
}

impl Hits {
    fn new(r: &pb::RateLimit) -> BuildResult<Hits> {
        let Some(h) = &r.hits_addend else { return Ok(Hits::None) };
        match (h.number, &*h.format) {
            (Some(n), "") => Ok(Hits::Fixed(n)),
            (None, f) if !f.is_empty() => Ok(Hits::Format(HeaderFormatter::new(f)?)),
            _ => Err("hits_addend must contain either a format or a number".into()),
        }
    }
    /// `None`: what the format says is no number, so there is no descriptor.
    fn of(&self, ex: &Exchange) -> Option<Option<u64>> {
        let format = match self {
            Hits::None => return Some(None),
            Hits::Fixed(n) => return Some(Some(*n)),
            Hits::Format(f) => f,
        };
        let mut text = vec![];
        let route = ex.sx.current_route();
        format.append(&request_cx(&ex.request.headers, &ex.sx, route.as_deref()), &mut text);
        let n: f64 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
        (0.0..=MAX_HITS).contains(&n).then_some(Some(n as u64))
    }
}

impl Limit {
    fn new(r: &pb::RateLimit) -> BuildResult<Limit> {
        match r.limit.as_ref().map(|l| &l.override_specifier) {
            None => Ok(Limit::None),
            Some(Some(OverrideSpecifier::DynamicMetadata(m))) => {
                let (namespace, path) = metadata_key(m.metadata_key.as_ref())?;
                Ok(Limit::Metadata(namespace, path))
            }
            Some(Some(OverrideSpecifier::RateLimit(l))) => Ok(Limit::Fixed(l.requests_per_unit, l.unit)),
            Some(None) => Err(BuildError::from("field: \"override_specifier\", reason: is required")),
        }
    }
    fn of(&self, ex: &Exchange) -> Option<(u32, i32)> {
        let (namespace, path) = match self {
            Limit::None => return None,
            Limit::Fixed(n, unit) => return Some((*n, *unit)),
            Limit::Metadata(namespace, path) => (namespace, path),
        };
        let metadata = ex.sx.info.metadata.borrow();
        let found = metadata.as_ref()?.get(namespace, path.iter().map(|p| &**p))?;
        let Some(Kind::StructValue(s)) = &found.kind else { return None };
        let field = |name: &str| s.fields.get(name)?.kind.as_ref();
        match (field("requests_per_unit"), field("unit")) {
            (Some(Kind::NumberValue(n)), Some(Kind::StringValue(unit))) => {
                Some((*n as u32, RateLimitUnit::from_str_name(unit)?.into()))
            }
            _ => None,
        }
    }
}

/// The rate limits that a route brings along.
#[derive(Clone, Copy, Default)]
pub struct RateLimits<'a> {
    /// `RouteAction.rate_limits`
    pub route: &'a [Policy],
    /// `VirtualHost.rate_limits`
    pub virtual_host: &'a [Policy],
    /// `RouteAction.include_vh_rate_limits`
    pub include_virtual_host: bool,
}

/// Whether those of the virtual host hold too (`VhRateLimitsOptions`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VirtualHostLimits {
    /// When the route has none.
    #[default]
    Override,
    /// Always.
    Include,
    /// Never.
    Ignore,
}

/// The policies of a route and its virtual host that hold at a stage.
pub fn of_route(route: &dyn Route, stage: u32, of_host: VirtualHostLimits) -> impl Iterator<Item = &Policy> {
    let all = route.rate_limits();
    let with_host = match of_host {
        _ if all.include_virtual_host => true,
        VirtualHostLimits::Include => true,
        VirtualHostLimits::Ignore => false,
        VirtualHostLimits::Override => all.route.is_empty(),
    };
    let host = if with_host { all.virtual_host } else { &[] };
    all.route.iter().chain(host).filter(move |p| p.stage == stage)
}
