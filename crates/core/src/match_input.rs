//! What the match trees of HTTP look at: a request, its response, its connection.

use crate::address::Address;
use crate::cel::Program;
use crate::error::{BuildError, BuildResult};
use crate::format::{FormatCx, request_cx};
use crate::info::{CertInfo, StreamShared};
use crate::match_tree::Value;
use crate::matchers::query;
use nuncio_api::envoy::extensions::matching::common_inputs::network::v3 as network;
use nuncio_api::envoy::extensions::matching::common_inputs::ssl::v3 as ssl;
use nuncio_api::envoy::r#type::matcher::v3 as http;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_api::xds::r#type::matcher::v3::HttpAttributesCelMatchInput;
use nuncio_wire::{HeaderName, RequestHead, ResponseHead};
use prost::{Message, Name};
use std::borrow::Cow;

/// A compiled input.
pub enum Input {
    /// `HttpRequestHeaderMatchInput`
    Header(HeaderName),
    /// `HttpRequestQueryParamMatchInput`
    QueryParameter(Box<[u8]>),
    /// `HttpResponseHeaderMatchInput`
    ResponseHeader(HeaderName),
    /// `HttpResponseStatusCodeMatchInput`
    Status,
    /// `HttpResponseStatusCodeClassMatchInput`
    StatusClass,
    /// `DestinationIPInput`
    DestinationIp,
    /// `DestinationPortInput`
    DestinationPort,
    /// `SourceIPInput`
    SourceIp,
    /// `SourcePortInput`
    SourcePort,
    /// `DirectSourceIPInput`
    DirectSourceIp,
    /// `ServerNameInput`
    ServerName,
    /// `UriSanInput`
    UriSan,
    /// `DnsSanInput`
    DnsSan,
    /// `SubjectInput`
    Subject,
    /// `FilterStateInput`
    FilterState(String),
    /// `HttpAttributesCelMatchInput`: all attributes, for expressions.
    Attributes,
}

/// What inputs are taken from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The request.
    pub request: &'a RequestHead,
    /// Its response, when there is one.
    pub response: Option<&'a ResponseHead>,
    /// Its stream and connection.
    pub sx: &'a StreamShared,
}

/// Inputs that Envoy has and this one has not.
const UNBUILT: &[&str] = &[
    "envoy.type.matcher.v3.HttpRequestTrailerMatchInput",
    "envoy.type.matcher.v3.HttpResponseTrailerMatchInput",
    "envoy.extensions.matching.common_inputs.network.v3.ApplicationProtocolInput",
    "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput",
    "envoy.extensions.matching.common_inputs.network.v3.NetworkNamespaceInput",
    "envoy.extensions.matching.common_inputs.network.v3.SourceTypeInput",
    "envoy.extensions.matching.common_inputs.network.v3.TransportProtocolInput",
    "envoy.extensions.matching.common_inputs.environment_variable.v3.Config",
];

impl Input {
    /// From configuration; `None` if there is no such input.
    ///
    /// # Errors
    /// It is not built, or not well-formed.
    pub fn new(c: &TypedExtensionConfig) -> BuildResult<Option<Input>> {
        let any = c.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        fn read<M: Message + Default>(bytes: &[u8]) -> BuildResult<M> {
            M::decode(bytes).map_err(|e| BuildError(e.to_string()))
        }
        let plain = [
            (http::HttpResponseStatusCodeMatchInput::full_name(), Input::Status),
            (http::HttpResponseStatusCodeClassMatchInput::full_name(), Input::StatusClass),
            (network::DestinationIpInput::full_name(), Input::DestinationIp),
            (network::DestinationPortInput::full_name(), Input::DestinationPort),
            (network::SourceIpInput::full_name(), Input::SourceIp),
            (network::SourcePortInput::full_name(), Input::SourcePort),
            (network::DirectSourceIpInput::full_name(), Input::DirectSourceIp),
            (network::ServerNameInput::full_name(), Input::ServerName),
            (ssl::UriSanInput::full_name(), Input::UriSan),
            (ssl::DnsSanInput::full_name(), Input::DnsSan),
            (ssl::SubjectInput::full_name(), Input::Subject),
            (HttpAttributesCelMatchInput::full_name(), Input::Attributes),
        ];
        if let Some((_, input)) = plain.into_iter().find(|(name, _)| name == ty) {
            return Ok(Some(input));
        }
        if ty == http::HttpRequestHeaderMatchInput::full_name() {
            let c: http::HttpRequestHeaderMatchInput = read(&any.value)?;
            return Ok(Some(Input::Header(HeaderName::new(&c.header_name))));
        }
        if ty == http::HttpResponseHeaderMatchInput::full_name() {
            let c: http::HttpResponseHeaderMatchInput = read(&any.value)?;
            return Ok(Some(Input::ResponseHeader(HeaderName::new(&c.header_name))));
        }
        if ty == http::HttpRequestQueryParamMatchInput::full_name() {
            let c: http::HttpRequestQueryParamMatchInput = read(&any.value)?;
            return Ok(Some(Input::QueryParameter(c.query_param.into_bytes().into())));
        }
        if ty == network::FilterStateInput::full_name() {
            let c: network::FilterStateInput = read(&any.value)?;
            return match &*c.field {
                "" => Ok(Some(Input::FilterState(c.key))),
                _ => Err(BuildError::not_implemented("FilterStateInput.field")),
            };
        }
        if UNBUILT.contains(&ty) {
            return Err(BuildError::not_implemented(format_args!("matcher input {} ({ty})", c.name)));
        }
        Ok(None)
    }

    /// True for what only a response has.
    pub fn is_of_response(&self) -> bool {
        matches!(self, Input::ResponseHeader(_) | Input::Status | Input::StatusClass)
    }

    /// What it says.
    pub fn value<'a>(&self, from: &Source<'a>) -> Value<'a> {
        let (sx, conn) = (from.sx, &from.sx.conn);
        let text = |t: Option<String>| t.map_or(Value::None, |t| Value::Some(Cow::Owned(t.into_bytes())));
        let ip = |a: &Address| text(a.ip().map(|ip| ip.to_string()));
        let port = |a: &Address| text(a.port().map(|p| p.to_string()));
        let source = |f: &dyn Fn(&Address) -> Value<'a>| match &*sx.info.remote.borrow() {
            Some(a) => f(a),
            None => f(&conn.remote.borrow()),
        };
        match self {
            Input::Header(name) => from.request.headers.joined(name).map_or(Value::None, Value::Some),
            Input::QueryParameter(name) => {
                let all = query::params(query::of_path(from.request.path()).unwrap_or_default());
                let mut all = all.map(|(n, v)| (query::decode(n).collect::<Vec<u8>>(), v));
                match all.find(|(n, _)| n[..] == name[..]) {
                    Some((_, v)) => Value::Some(Cow::Owned(query::decode(v).collect())),
                    None => Value::None,
                }
            }
            Input::ResponseHeader(name) => match from.response {
                Some(r) => r.headers.joined(name).map_or(Value::None, Value::Some),
                None => Value::NotAvailable,
            },
            Input::Status => match from.response {
                Some(r) => text(Some(r.status.to_string())),
                None => Value::NotAvailable,
            },
            Input::StatusClass => match from.response {
                Some(r) => text((100..600).contains(&r.status).then(|| format!("{}xx", r.status / 100))),
                None => Value::NotAvailable,
            },
            Input::DestinationIp => ip(&conn.local.borrow()),
            Input::DestinationPort => port(&conn.local.borrow()),
            Input::SourceIp => source(&ip),
            Input::SourcePort => source(&port),
            Input::DirectSourceIp => ip(&conn.direct_remote),
            Input::ServerName => text(conn.sni.get().filter(|s| !s.is_empty()).cloned()),
            Input::UriSan => certificate(sx, |c| c.uri_sans.join(",")),
            Input::DnsSan => certificate(sx, |c| c.dns_sans.join(",")),
            Input::Subject => certificate(sx, |c| c.subject.clone()),
            Input::Attributes => Value::NotAvailable,
            Input::FilterState(key) => {
                let found = sx.info.filter_state.borrow().get(key);
                let found = found.or_else(|| conn.filter_state.borrow().get(key));
                text(found.and_then(|o| o.text()))
            }
        }
    }
}

/// Whether an expression over the attributes is true.
pub fn holds(program: &Program, from: &Source<'_>) -> bool {
    let route = from.sx.current_route();
    let cx = request_cx(&from.request.headers, from.sx, route.as_deref());
    let response = from.response.map(|r| (r.status, &r.headers));
    program.matches(&FormatCx { response, ..cx })
}

/// A fact of the client's certificate; an empty one is none.
fn certificate<'a>(sx: &StreamShared, fact: impl Fn(&CertInfo) -> String) -> Value<'a> {
    let Some(tls) = sx.conn.tls.get() else { return Value::NotAvailable };
    match tls.peer.as_deref().map(fact).filter(|t| !t.is_empty()) {
        Some(t) => Value::Some(Cow::Owned(t.into_bytes())),
        None => Value::None,
    }
}
