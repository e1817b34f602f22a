//! What the service is told of a request (`envoy.service.auth.v3.CheckRequest`).

use super::ExtAuthz;
use super::ahead::Taken;
use super::http::ALWAYS;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::service::auth::v3 as auth;
use nuncio_core::Exchange;
use nuncio_core::address::Address;
use nuncio_core::info::CertInfo;
use nuncio_core::metadata::Metadata;
use nuncio_wire::HeaderMap;
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

/// Says whether the body that is shown is all of it.
const PARTIAL: &str = "x-envoy-auth-partial-body";

impl ExtAuthz {
    /// Makes the request.
    pub(super) fn request(
        &self,
        ex: &Exchange,
        extensions: BTreeMap<String, String>,
        body: Option<Taken>,
        as_bytes: bool,
    ) -> auth::CheckRequest {
        let (conn, info, head) = (&ex.sx.conn, &ex.sx.info, &ex.request);
        let tls = conn.tls.get();
        let remote = info.remote.borrow().clone().unwrap_or_else(|| conn.remote.borrow().clone());
        let mut source = peer(&remote, tls.and_then(|t| t.peer.as_deref()), self.certificate);
        source.service = text(head.headers.get("x-envoy-downstream-service-cluster").unwrap_or_default());
        let destination = peer(&conn.local.borrow(), tls.and_then(|t| t.local.as_deref()), false);
        let since = info.start_wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut http = auth::attribute_context::HttpRequest {
            id: info.random.get().to_string(),
            method: text(head.method()),
            path: text(head.path()),
            host: text(head.authority()),
            scheme: text(head.scheme()),
            size: i64::try_from(info.bytes_received.get()).unwrap_or(i64::MAX),
            protocol: info.protocol.get().map(|v| v.as_str().to_owned()).unwrap_or_default(),
            headers: self.shown(&head.headers),
            ..Default::default()
        };
        if let Some(taken) = body {
            http.headers.insert(PARTIAL.into(), taken.partial.to_string());
            match as_bytes {
                true => http.raw_body = taken.bytes.into(),
                false => http.body = text(&taken.bytes),
            }
        }
        let request = auth::attribute_context::Request {
            time: Some(prost_types::Timestamp {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanos: since.subsec_nanos().try_into().unwrap_or(0),
            }),
            http: Some(Box::new(http)),
        };
        let sni = tls.map(|t| t.sni.clone()).filter(|s| !s.is_empty());
        let session = || auth::attribute_context::TlsSession {
            sni: sni.or_else(|| conn.sni.get().cloned()).unwrap_or_default(),
        };
        let attributes = auth::AttributeContext {
            source: Some(source),
            destination: Some(destination),
            request: Some(request),
            context_extensions: extensions,
            metadata_context: Some(self.metadata(ex)),
            route_metadata_context: Some(self.route_metadata(ex)),
            tls_session: self.tls_session.then(session),
        };
        auth::CheckRequest { attributes: Some(Box::new(attributes)) }
    }
    /// The headers that the service may see; those of one name are joined.
    fn shown(&self, headers: &HeaderMap) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for h in headers.iter() {
            let name = h.name.to_ascii_lowercase();
            if name == PARTIAL.as_bytes()
                || self.disallowed.as_ref().is_some_and(|d| d.matches(&name))
                || self.allowed.as_ref().is_some_and(|a| !a.matches(&name))
                    && !(self.over_http && ALWAYS.contains(&&*name))
            {
                continue;
            }
            let value = text(h.value);
            all.entry(text(&name))
                .and_modify(|before| {
                    before.push(',');
                    before.push_str(&value);
                })
                .or_insert(value);
        }
        all
    }
    fn metadata(&self, ex: &Exchange) -> core::Metadata {
        let mut all = core::Metadata::default();
        if self.namespaces.is_empty() {
            return all;
        }
        let (of_stream, of_conn) = (ex.sx.info.metadata.borrow(), ex.sx.conn.metadata.borrow());
        for name in &self.namespaces {
            let of = |m: &Metadata| m.0.get(name).cloned();
            if let Some(s) = of_stream.as_deref().and_then(of).or_else(|| of(&of_conn)) {
                all.filter_metadata.insert(name.clone(), s);
            }
        }
        all
    }
    fn route_metadata(&self, ex: &Exchange) -> core::Metadata {
        let mut all = core::Metadata::default();
        if self.route_namespaces.is_empty() {
            return all;
        }
        let Some(route) = ex.route() else { return all };
        for name in &self.route_namespaces {
            if let Some(s) = route.metadata().0.get(name) {
                all.filter_metadata.insert(name.clone(), s.clone());
            }
        }
        all
    }
}

fn peer(a: &Address, cert: Option<&CertInfo>, with_certificate: bool) -> auth::attribute_context::Peer {
    let principal = cert.map(|c| {
        let name = c.uri_sans.first().or(c.dns_sans.first());
        name.unwrap_or(&c.subject).clone()
    });
    auth::attribute_context::Peer {
        address: Some(Box::new(core::Address { address: Some(address(a)) })),
        principal: principal.unwrap_or_default(),
        certificate: cert.filter(|_| with_certificate).map(|c| c.pem_urlencoded.clone()).unwrap_or_default(),
        ..Default::default()
    }
}

fn address(a: &Address) -> core::address::Address {
    match a {
        Address::Ip(ip) => core::address::Address::SocketAddress(core::SocketAddress {
            address: a.without_port(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(ip.port().into())),
            ..Default::default()
        }),
        Address::Pipe(p) => {
            core::address::Address::Pipe(core::Pipe { path: p.display().to_string(), mode: 0 })
        }
        Address::Internal(name, id) => {
            core::address::Address::EnvoyInternalAddress(core::EnvoyInternalAddress {
                endpoint_id: id.to_string(),
                address_name_specifier: Some(
                    core::envoy_internal_address::AddressNameSpecifier::ServerListenerName(name.to_string()),
                ),
            })
        }
    }
}

/// As text, in which `!` stands for each byte that is none, as in Envoy.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| '!'));
    }
    out
}
