//! The matcher form of RBAC: a tree whose leaves are named actions.

use crate::matching::{Kind, Value};
use nuncio_api::envoy::config::rbac::v3 as pb;
use nuncio_api::envoy::extensions::matching::common_inputs::network::v3 as network;
use nuncio_api::envoy::extensions::matching::common_inputs::ssl::v3 as ssl;
use nuncio_api::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_core::address::Address;
use nuncio_core::info::{CertInfo, TlsInfo};
use nuncio_core::{BuildError, BuildResult, Exchange};
use nuncio_wire::HeaderName;
use pb::rbac::Action;
use prost::{Message, Name};
use std::borrow::Cow;
use std::cell::Cell;

/// RBAC's trees.
#[derive(Default)]
pub struct Rbac {
    /// One of the actions is LOG.
    pub has_log: Cell<bool>,
    /// The rules are those of the network filter.
    connections: bool,
}

impl Rbac {
    /// Trees of the network filter.
    pub fn of_connections() -> Rbac {
        Rbac { connections: true, ..Rbac::default() }
    }
}

/// `envoy.config.rbac.v3.Action`
pub struct Named {
    /// Its name, which counts as that of a policy.
    pub name: String,
    /// What becomes of the request.
    pub action: Action,
}

/// What RBAC may look at.
pub enum Input {
    Header(HeaderName),
    DestinationIp,
    DestinationPort,
    SourceIp,
    SourcePort,
    DirectSourceIp,
    ServerName,
    UriSan,
    DnsSan,
    Subject,
    FilterState(String),
}

/// Inputs that Envoy's RBAC has and this one has not.
const UNBUILT: &[&str] = &[
    "xds.type.matcher.v3.HttpAttributesCelMatchInput",
    "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput",
    "envoy.extensions.matching.common_inputs.network.v3.NetworkNamespaceInput",
];

impl Kind for Rbac {
    type Input = Input;
    type Action = Named;
    type Data = Exchange;

    fn input(&self, c: &TypedExtensionConfig) -> BuildResult<Input> {
        let any = c.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        let bad = |e: prost::DecodeError| BuildError(e.to_string());
        let plain = [
            (network::DestinationIpInput::full_name(), Input::DestinationIp),
            (network::DestinationPortInput::full_name(), Input::DestinationPort),
            (network::SourceIpInput::full_name(), Input::SourceIp),
            (network::SourcePortInput::full_name(), Input::SourcePort),
            (network::DirectSourceIpInput::full_name(), Input::DirectSourceIp),
            (network::ServerNameInput::full_name(), Input::ServerName),
            (ssl::UriSanInput::full_name(), Input::UriSan),
            (ssl::DnsSanInput::full_name(), Input::DnsSan),
            (ssl::SubjectInput::full_name(), Input::Subject),
        ];
        if let Some((_, input)) = plain.into_iter().find(|(name, _)| name == ty) {
            return Ok(input);
        }
        if ty == HttpRequestHeaderMatchInput::full_name() && !self.connections {
            let c = HttpRequestHeaderMatchInput::decode(&*any.value).map_err(bad)?;
            return Ok(Input::Header(HeaderName::new(&c.header_name)));
        }
        if ty == network::FilterStateInput::full_name() {
            let c = network::FilterStateInput::decode(&*any.value).map_err(bad)?;
            return match &*c.field {
                "" => Ok(Input::FilterState(c.key)),
                _ => Err(BuildError::not_implemented("FilterStateInput.field")),
            };
        }
        if UNBUILT.contains(&ty) {
            return Err(BuildError::not_implemented(format_args!("matcher input {} ({ty})", c.name)));
        }
        let filter = if self.connections { "network" } else { "HTTP" };
        Err(BuildError(format!(
            "requirement violation while creating RBAC match tree: INVALID_ARGUMENT: RBAC {filter} filter cannot match on '{}'",
            any.type_url
        )))
    }

    fn action(&self, c: &TypedExtensionConfig) -> BuildResult<Named> {
        let any = c.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        if ty != pb::Action::full_name() {
            return Err(BuildError(nuncio_api::extensions::unregistered(&c.name, ty)));
        }
        let a = pb::Action::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
        self.has_log.set(self.has_log.get() || a.action() == Action::Log);
        Ok(Named { action: a.action(), name: a.name })
    }

    fn value<'a>(input: &Input, ex: &'a Exchange) -> Value<'a> {
        let conn = &ex.sx.conn;
        let text = |t: Option<String>| t.map_or(Value::None, |t| Value::Some(Cow::Owned(t.into_bytes())));
        let ip = |a: &Address| text(a.ip().map(|ip| ip.to_string()));
        let port = |a: &Address| text(a.port().map(|p| p.to_string()));
        let source = |f: &dyn Fn(&Address) -> Value<'a>| match &*ex.sx.info.remote.borrow() {
            Some(a) => f(a),
            None => f(&conn.remote.borrow()),
        };
        match input {
            Input::Header(name) => ex.request.headers.joined(name).map_or(Value::None, Value::Some),
            Input::DestinationIp => ip(&conn.local.borrow()),
            Input::DestinationPort => port(&conn.local.borrow()),
            Input::SourceIp => source(&ip),
            Input::SourcePort => source(&port),
            Input::DirectSourceIp => ip(&conn.direct_remote),
            Input::ServerName => text(conn.sni.get().filter(|s| !s.is_empty()).cloned()),
            Input::UriSan => certificate(ex, |c| c.uri_sans.join(",")),
            Input::DnsSan => certificate(ex, |c| c.dns_sans.join(",")),
            Input::Subject => certificate(ex, |c| c.subject.clone()),
            Input::FilterState(key) => {
                let found = ex.sx.info.filter_state.borrow().get(key);
                let found = found.or_else(|| conn.filter_state.borrow().get(key));
                text(found.and_then(|o| o.text()))
            }
        }
    }
}

/// A fact of the client's certificate; an empty one is none.
fn certificate<'a>(ex: &Exchange, fact: impl Fn(&CertInfo) -> String) -> Value<'a> {
    let Some(tls) = ex.sx.conn.tls.get() else { return Value::NotAvailable };
    let tls: &TlsInfo = tls;
    match tls.peer.as_ref().map(|c| fact(c)).filter(|t| !t.is_empty()) {
        Some(t) => Value::Some(Cow::Owned(t.into_bytes())),
        None => Value::None,
    }
}
