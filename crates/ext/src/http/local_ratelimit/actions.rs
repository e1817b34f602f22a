//! Descriptors of a request: what `RateLimit.actions` make of it.

use crate::config::request_cx;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::r#type::metadata::v3::{MetadataKey, metadata_key::path_segment::Segment};
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::HeaderFormatter;
use nuncio_core::matchers::{CidrRange, HeaderMatcher, QueryParameterMatcher, matches_all, query};
use nuncio_core::{BuildError, BuildResult, Exchange};
use nuncio_wire::HeaderName;
use pb::rate_limit::action::{ActionSpecifier as A, meta_data::Source};
use prost_types::value::Kind;
use std::net::IpAddr;

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new("envoy.config.route.v3.RateLimit", &["actions", "hits_addend"]),
    Covered::new("envoy.config.route.v3.RateLimit.HitsAddend", &["number", "format"]),
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
            "metadata",
            "masked_remote_address",
            "query_parameter_value_match",
        ],
    ),
];

/// Key and value.
pub type Entry = (String, String);

/// The entries of a request, and how many tokens it takes.
pub struct Descriptor {
    /// In the order of the actions.
    pub entries: Vec<Entry>,
    /// `hits_addend`, or 1.
    pub hits: u64,
}

/// Of `hits_addend`.
const MAX_HITS: f64 = 1e9;

/// One `RateLimit`: a list of actions that make one descriptor.
pub struct Policy {
    actions: Vec<Action>,
    hits: Hits,
}

enum Hits {
    Fixed(u64),
    Format(HeaderFormatter),
}

enum Action {
    SourceCluster(String),
    DestinationCluster,
    Header {
        name: HeaderName,
        key: String,
        skip_if_absent: bool,
    },
    Query {
        name: Vec<u8>,
        key: String,
        skip_if_absent: bool,
    },
    RemoteAddress,
    MaskedAddress {
        v4: u32,
        v6: u32,
    },
    Generic(Value),
    HeaderMatch {
        value: Value,
        expect: bool,
        headers: Vec<HeaderMatcher>,
    },
    QueryMatch {
        value: Value,
        expect: bool,
        params: Vec<QueryParameterMatcher>,
    },
    Metadata {
        namespace: String,
        path: Vec<String>,
        key: String,
        default: String,
        route: bool,
        skip_if_absent: bool,
    },
}

/// A configured key and value.
struct Value {
    key: String,
    /// The value as it stands, or where the runtime wants it as a format with a default for what comes out empty.
    value: Result<String, (HeaderFormatter, String)>,
}

/// Off unless the runtime says otherwise when the configuration is loaded.
const FORMATS: &str = "envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value";

impl Value {
    fn new(keys: [&str; 2], value: &str, default: &str, cx: &BuildCx<'_>) -> BuildResult<Value> {
        let [key, default_key] = keys;
        let key = if key.is_empty() { default_key } else { key };
        let formats = cx.server.runtime().snapshot().get(FORMATS).and_then(|v| v.boolean);
        let value = match formats {
            Some(true) => Err((HeaderFormatter::new(value)?, default.to_owned())),
            _ => Ok(value.to_owned()),
        };
        Ok(Value { key: key.into(), value })
    }
    fn entry(&self, ex: &Exchange) -> Option<Entry> {
        let value = match &self.value {
            Ok(v) => v.clone(),
            Err((format, default)) => {
                let mut text = vec![];
                let route = ex.sx.current_route();
                format.append(&request_cx(&ex.request.headers, &ex.sx, route.as_deref()), &mut text);
                if text.is_empty() { default.clone() } else { lossy(&text) }
            }
        };
        (!value.is_empty()).then(|| (self.key.clone(), value))
    }
}

fn lossy(b: &[u8]) -> String {
    String::from_utf8_lossy(b).into_owned()
}

impl Policy {
    /// From configuration.
    ///
    /// # Errors
    /// An action that a filter's own rate limits cannot have, a bad format or matcher.
    pub fn new(r: &pb::RateLimit, cx: &BuildCx<'_>) -> BuildResult<Policy> {
        let either = || BuildError::from("hits_addend must contain either a format or a number");
        let hits = match &r.hits_addend {
            None => Hits::Fixed(1),
            Some(h) => match (h.number, &*h.format) {
                (Some(n), "") => Hits::Fixed(n),
                (None, "") | (Some(_), _) => return Err(either()),
                (None, f) => Hits::Format(HeaderFormatter::new(f)?),
            },
        };
        if r.stage.is_some() || !r.disable_key.is_empty() {
            return Err("'stage' field and 'disable_key' field are not supported".into());
        }
        let actions = r.actions.iter().map(|a| Action::new(a, cx)).collect::<BuildResult<_>>()?;
        Ok(Policy { actions, hits })
    }
    /// The descriptor of a request, unless an action says that there is none.
    pub fn descriptor(&self, ex: &Exchange) -> Option<Descriptor> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for a in &self.actions {
            // An action that is skipped adds nothing; one that fails ends it.
            entries.extend(a.entry(ex)?);
        }
        let hits = match &self.hits {
            Hits::Fixed(n) => *n,
            Hits::Format(f) => {
                let mut text = vec![];
                f.append(
                    &request_cx(&ex.request.headers, &ex.sx, ex.sx.current_route().as_deref()),
                    &mut text,
                );
                let n: f64 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
                (0.0..=MAX_HITS).contains(&n).then_some(n as u64)?
            }
        };
        Some(Descriptor { entries, hits })
    }
}

impl Action {
    fn new(a: &pb::rate_limit::Action, cx: &BuildCx<'_>) -> BuildResult<Action> {
        Ok(match &a.action_specifier {
            Some(A::SourceCluster(_)) => Action::SourceCluster(cx.node.cluster.clone()),
            Some(A::DestinationCluster(_)) => Action::DestinationCluster,
            Some(A::RequestHeaders(h)) => Action::Header {
                name: HeaderName::new(&h.header_name),
                key: h.descriptor_key.clone(),
                skip_if_absent: h.skip_if_absent,
            },
            Some(A::QueryParameters(q)) => Action::Query {
                name: q.query_parameter_name.clone().into_bytes(),
                key: q.descriptor_key.clone(),
                skip_if_absent: q.skip_if_absent,
            },
            Some(A::RemoteAddress(_)) => Action::RemoteAddress,
            Some(A::MaskedRemoteAddress(m)) => Action::MaskedAddress {
                v4: m.v4_prefix_mask_len.unwrap_or(32),
                v6: m.v6_prefix_mask_len.unwrap_or(128),
            },
            Some(A::GenericKey(g)) => Action::Generic(Value::new(
                [&g.descriptor_key, "generic_key"],
                &g.descriptor_value,
                &g.default_value,
                cx,
            )?),
            Some(A::HeaderValueMatch(m)) => Action::HeaderMatch {
                value: Value::new(
                    [&m.descriptor_key, "header_match"],
                    &m.descriptor_value,
                    &m.default_value,
                    cx,
                )?,
                expect: m.expect_match.unwrap_or(true),
                headers: HeaderMatcher::list(&m.headers)?,
            },
            Some(A::QueryParameterValueMatch(m)) => Action::QueryMatch {
                value: Value::new(
                    [&m.descriptor_key, "query_match"],
                    &m.descriptor_value,
                    &m.default_value,
                    cx,
                )?,
                expect: m.expect_match.unwrap_or(true),
                params: m
                    .query_parameters
                    .iter()
                    .map(QueryParameterMatcher::new)
                    .collect::<BuildResult<_>>()?,
            },
            Some(A::Metadata(m)) => {
                let (namespace, path) = metadata_key(m.metadata_key.as_ref())?;
                let route = match m.source() {
                    Source::Dynamic => false,
                    Source::RouteEntry => true,
                    other => {
                        let name = other.as_str_name();
                        return Err(BuildError::not_implemented(format_args!(
                            "RateLimit metadata source {name}"
                        )));
                    }
                };
                Action::Metadata {
                    namespace,
                    path,
                    key: m.descriptor_key.clone(),
                    default: m.default_value.clone(),
                    route,
                    skip_if_absent: m.skip_if_absent,
                }
            }
            Some(A::DynamicMetadata(_)) => return Err("Unsupported rate limit action: 7".into()),
            Some(A::Extension(e)) => {
                return Err(BuildError::not_implemented(format_args!("rate limit descriptor {}", e.name)));
            }
            Some(A::RemoteAddressMatch(_)) => {
                return Err(BuildError::not_implemented("RateLimit.Action.remote_address_match"));
            }
            None => return Err("field: \"action_specifier\", reason: is required".into()),
        })
    }
    /// `None`: no descriptor; `Some(None)`: one without this action.
    fn entry(&self, ex: &Exchange) -> Option<Option<Entry>> {
        let (head, sx) = (&ex.request, &ex.sx);
        let absent = |skip: bool| if skip { Some(None) } else { None };
        let found = |key: &str, value: String| Some(Some((key.to_owned(), value)));
        match self {
            Action::SourceCluster(c) => found("source_cluster", c.clone()),
            Action::DestinationCluster => {
                let route = ex.route()?;
                let cluster = route.cluster(head, sx)?.into_owned();
                found("destination_cluster", cluster)
            }
            Action::Header { name, key, skip_if_absent } => match head.headers.get(name) {
                Some(v) => found(key, lossy(v)),
                None => absent(*skip_if_absent),
            },
            Action::Query { name, key, skip_if_absent } => {
                let query = query::of_path(head.path()).unwrap_or_default();
                let value = query::params(query).find(|(n, _)| query::decode(n).eq(name.iter().copied()));
                match value {
                    Some((_, v)) => found(key, lossy(&query::decode(v).collect::<Vec<_>>())),
                    None => absent(*skip_if_absent),
                }
            }
            Action::RemoteAddress => found("remote_address", remote(ex)?.to_string()),
            Action::MaskedAddress { v4, v6 } => {
                let ip = remote(ex)?;
                let len = if ip.is_ipv4() { *v4 } else { *v6 };
                found("masked_remote_address", CidrRange::of(ip, len).to_string())
            }
            Action::Generic(v) => v.entry(ex).map(Some),
            Action::HeaderMatch { value, expect, headers } => {
                (matches_all(headers, head) == *expect).then(|| value.entry(ex))?.map(Some)
            }
            Action::QueryMatch { value, expect, params } => {
                let matches = params.iter().all(|p| p.matches(head.path()));
                (matches == *expect).then(|| value.entry(ex))?.map(Some)
            }
            Action::Metadata { namespace, path, key, default, route, skip_if_absent } => {
                let keys: Vec<&str> = path.iter().map(|p| &**p).collect();
                let path = || keys.iter().copied();
                let text = |v: Option<&prost_types::Value>| match v.and_then(|v| v.kind.as_ref()) {
                    Some(Kind::StringValue(s)) => s.clone(),
                    _ => String::new(),
                };
                let value = if *route {
                    ex.route().map_or_else(String::new, |r| text(r.metadata().get(namespace, path())))
                } else {
                    let metadata = sx.info.metadata.borrow();
                    text(metadata.as_ref().and_then(|m| m.get(namespace, path())))
                };
                match (&*value, &**default) {
                    ("", "") => absent(*skip_if_absent),
                    ("", default) => found(key, default.to_owned()),
                    (value, _) => found(key, value.to_owned()),
                }
            }
        }
    }
}

/// The client's address, as the request says it or the connection.
fn remote(ex: &Exchange) -> Option<IpAddr> {
    let said = ex.sx.info.remote.borrow();
    said.as_ref().map_or_else(|| ex.sx.conn.remote.borrow().ip(), |a| a.ip())
}

fn metadata_key(k: Option<&MetadataKey>) -> BuildResult<(String, Vec<String>)> {
    let Some(k) = k else { return Ok(Default::default()) };
    let path = k.path.iter().map(|s| match &s.segment {
        Some(Segment::Key(k)) => Ok(k.clone()),
        Some(Segment::Index(_)) => Err(BuildError::not_implemented("MetadataKey.PathSegment.index")),
        None => Err("field: \"segment\", reason: is required".into()),
    });
    Ok((k.key.clone(), path.collect::<BuildResult<_>>()?))
}
