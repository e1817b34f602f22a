//! TLS: contexts from configuration ([`server`], [`client`]), keys and certificates ([`material`]), and the stream
//! ([`io`]). Envoy's TLS is BoringSSL, ours is rustls: what rustls does not have is refused by field name.

mod client;
mod io;
pub mod material;
mod server;

pub use client::ClientTls;
pub use io::TlsIo;
pub use server::ServerTls;

use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use rustls::crypto::CryptoProvider;
use rustls::{SupportedProtocolVersion, version};
use std::sync::Arc;

/// What is read of the TLS messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        &["common_tls_context", "require_client_certificate"],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        &["common_tls_context", "sni"],
    )
    .ignoring(&[("max_session_keys", "sessions are resumed within rustls' own limits")]),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        &["tls_params", "tls_certificates", "validation_context", "alpn_protocols"],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        &["tls_minimum_protocol_version", "tls_maximum_protocol_version"],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        &["certificate_chain", "private_key"],
    ),
    Covered::new("envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext", &["trusted_ca"]),
    Covered::new(
        "envoy.config.core.v3.DataSource",
        &["filename", "inline_bytes", "inline_string", "environment_variable"],
    ),
    Covered::new("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", &[]),
];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The protocol versions between the configured minimum and maximum, `default_max` when none is configured.
/// rustls has no TLS 1.0 and 1.1: as a minimum they load, as a maximum they are refused.
fn versions(
    p: Option<&pb::TlsParameters>,
    default_max: pb::tls_parameters::TlsProtocol,
) -> BuildResult<Vec<&'static SupportedProtocolVersion>> {
    use pb::tls_parameters::TlsProtocol as V;
    let read = |v: i32| V::try_from(v).unwrap_or(V::TlsAuto);
    let min = p.map_or(V::TlsAuto, |p| read(p.tls_minimum_protocol_version));
    let max = match p.map_or(V::TlsAuto, |p| read(p.tls_maximum_protocol_version)) {
        V::TlsAuto => default_max,
        v => v,
    };
    if matches!(max, V::TlSv10 | V::TlSv11) {
        return Err(BuildError::not_implemented("TlsParameters.tls_maximum_protocol_version below TLSv1_2"));
    }
    let mut all = vec![];
    if max == V::TlSv13 {
        all.push(&version::TLS13);
    }
    if min != V::TlSv13 {
        all.push(&version::TLS12);
    }
    if all.is_empty() {
        return Err("Failed to initialize TLS: minimum version is above the maximum".into());
    }
    Ok(all)
}
