//! One action of a `RateLimit`: what it adds to the descriptor of a request.

use super::{Entry, Place};
use crate::address::Address;
use crate::cel::{self, Program};
use crate::filter::BuildCx;
use crate::format::{HeaderFormatter, request_cx};
use crate::match_input::{Input, Source};
use crate::match_tree;
use crate::matchers::{CidrRange, CidrSet, HeaderMatcher, QueryParameterMatcher, matches_all, query};
use crate::{BuildError, BuildResult, Exchange};
use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_api::envoy::extensions::rate_limit_descriptors::expr::v3::{
    Descriptor, descriptor::ExprSpecifier,
};
use nuncio_api::envoy::r#type::metadata::v3::{MetadataKey, metadata_key::path_segment::Segment};
use nuncio_api::xds::core::v3::TypedExtensionConfig as XdsExtensionConfig;
use nuncio_wire::HeaderName;
use pb::rate_limit::action::{ActionSpecifier as A, DynamicMetaData, MetaData, meta_data::Source as From};
use prost::{Message, Name};
use prost_types::value::Kind;
use std::net::IpAddr;

/// A compiled action.
pub(super) enum Action {
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
    AddressMatch {
        value: Value,
        ranges: CidrSet,
        invert: bool,
    },
    /// An expression; what to do when it fails.
    Expression {
        key: String,
        program: Program,
        skip_if_error: bool,
    },
    /// A matcher's input; the key is the extension's name.
    Input {
        key: String,
        input: Input,
    },
}

/// A configured key and value.
pub(super) struct Value {
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
    /// The entry; none when its value is empty.
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

impl Action {
    /// From configuration.
    ///
    /// # Errors
    /// There is no such action in that place, or it is refused.
    pub(super) fn new(a: &pb::rate_limit::Action, place: Place, cx: &BuildCx<'_>) -> BuildResult<Action> {
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
            Some(A::Metadata(m)) => Action::metadata(m)?,
            Some(A::DynamicMetadata(m)) if place == Place::Route => Action::metadata(&dynamic(m))?,
            Some(A::DynamicMetadata(_)) => return Err("Unsupported rate limit action: 7".into()),
            Some(A::Extension(e)) => Action::extension(e)?,
            Some(A::RemoteAddressMatch(m)) => {
                let matcher = m.address_matcher.clone().unwrap_or_default();
                Action::AddressMatch {
                    value: Value::new(
                        [&m.descriptor_key, "remote_address_match"],
                        &m.descriptor_value,
                        &m.default_value,
                        cx,
                    )?,
                    ranges: CidrSet::from_xds(&matcher.ranges)?,
                    invert: matcher.invert_match,
                }
            }
            None => return Err("field: \"action_specifier\", reason: is required".into()),
        })
    }
    fn metadata(m: &MetaData) -> BuildResult<Action> {
        let (namespace, path) = metadata_key(m.metadata_key.as_ref())?;
        let route = match m.source() {
            From::Dynamic => false,
            From::RouteEntry => true,
            other => {
                let name = other.as_str_name();
                return Err(BuildError::not_implemented(format_args!("RateLimit metadata source {name}")));
            }
        };
        Ok(Action::Metadata {
            namespace,
            path,
            key: m.descriptor_key.clone(),
            default: m.default_value.clone(),
            route,
            skip_if_absent: m.skip_if_absent,
        })
    }
    fn extension(e: &TypedExtensionConfig) -> BuildResult<Action> {
        if let Some(any) = &e.typed_config
            && any.type_url.rsplit('/').next() == Some(&*Descriptor::full_name())
        {
            let d = Descriptor::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
            return Action::expression(d);
        }
        let config = XdsExtensionConfig { name: e.name.clone(), typed_config: e.typed_config.clone() };
        match Input::new(&config)? {
            Some(input) => Ok(Action::Input { key: e.name.clone(), input }),
            None => Err(BuildError::not_implemented(format_args!("rate limit descriptor {}", e.name))),
        }
    }
    fn expression(d: Descriptor) -> BuildResult<Action> {
        let program = match &d.expr_specifier {
            Some(ExprSpecifier::Text(t)) => Program::parse(t, cel::Options::default()).map_err(|e| {
                let why = e.0.strip_prefix("Not able to parse expression");
                why.map(|why| BuildError(format!("Unable to parse descriptor expression{why}"))).unwrap_or(e)
            })?,
            Some(ExprSpecifier::Parsed(e)) => Program::of_alpha(e, cel::Options::default())?,
            None => {
                return Err("Rate limit descriptor extension failed: expression specifier is not set".into());
            }
        };
        Ok(Action::Expression { key: d.descriptor_key, program, skip_if_error: d.skip_if_error })
    }
    /// `None`: no descriptor; `Some(None)`: one without this action.
    pub(super) fn entry(&self, ex: &Exchange) -> Option<Option<Entry>> {
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
            Action::AddressMatch { value, ranges, invert } => {
                (ranges.contains(remote(ex)?) != *invert).then(|| value.entry(ex))?.map(Some)
            }
            Action::Expression { key, program, skip_if_error } => {
                let route = sx.current_route();
                match program.eval(&request_cx(&head.headers, sx, route.as_deref())) {
                    Ok(v) => found(key, lossy(&v.print())),
                    Err(_) => absent(*skip_if_error),
                }
            }
            Action::Input { key, input } => {
                match input.value(&Source { request: head, response: None, sx }) {
                    match_tree::Value::Some(v) if v.is_empty() => Some(None),
                    match_tree::Value::Some(v) => found(key, lossy(&v)),
                    _ => None,
                }
            }
        }
    }
}

/// The client's address, as the request says it or the connection.
fn remote(ex: &Exchange) -> Option<IpAddr> {
    let said = ex.sx.info.remote.borrow();
    said.as_ref().map_or_else(|| ex.sx.conn.remote.borrow().ip(), Address::ip)
}

/// The deprecated form of an action on metadata.
fn dynamic(m: &DynamicMetaData) -> MetaData {
    MetaData {
        descriptor_key: m.descriptor_key.clone(),
        metadata_key: m.metadata_key.clone(),
        default_value: m.default_value.clone(),
        source: From::Dynamic.into(),
        skip_if_absent: false,
    }
}

/// Name space and path in it.
pub(super) fn metadata_key(k: Option<&MetadataKey>) -> BuildResult<(String, Vec<String>)> {
    let Some(k) = k else { return Ok(Default::default()) };
    let path = k.path.iter().map(|s| match &s.segment {
        Some(Segment::Key(k)) => Ok(k.clone()),
        Some(Segment::Index(_)) => Err(BuildError::not_implemented("MetadataKey.PathSegment.index")),
        None => Err("field: \"segment\", reason: is required".into()),
    });
    Ok((k.key.clone(), path.collect::<BuildResult<_>>()?))
}
