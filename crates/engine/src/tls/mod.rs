//! TLS: contexts from configuration ([`server`], [`client`]) with what they name ([`secrets`], fetched by
//! [`sds`]; [`material`], [`params`]), the check of the peer ([`verify`], [`cert`]), and the stream ([`io`]). Envoy's TLS is BoringSSL, ours is
//! rustls: what rustls does not have is refused by field name.

mod cert;
mod client;
mod count;
mod errors;
mod fingerprint;
mod io;
pub mod material;
mod params;
pub mod sds;
pub mod secrets;
mod server;
mod signatures;
mod tickets;
mod verify;

pub use client::ClientTls;
pub use fingerprint::fingerprint;
pub use io::TlsIo;
pub use server::ServerTls;

use nuncio_core::coverage::Covered;

/// What is read of the TLS messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        &[
            "common_tls_context",
            "require_client_certificate",
            "disable_stateless_session_resumption",
            "disable_stateful_session_resumption",
            "session_ticket_keys",
            "session_ticket_keys_sds_secret_config",
            "session_timeout",
        ],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        &["common_tls_context", "sni", "auto_host_sni", "auto_sni_san_validation", "max_session_keys"],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        &[
            "tls_params",
            "tls_certificates",
            "tls_certificate_sds_secret_configs",
            "validation_context",
            "validation_context_sds_secret_config",
            "combined_validation_context",
            "alpn_protocols",
        ],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
        &["default_validation_context", "validation_context_sds_secret_config"],
    ),
    Covered::new("envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig", &["name", "sds_config"]),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        &["name", "tls_certificate", "validation_context", "session_ticket_keys"],
    ),
    Covered::new("envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", &["keys"]),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        &["tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves"],
    ),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        &["certificate_chain", "private_key", "watched_directory"],
    )
    .ignoring(&[("password", "only for encrypted keys, which are refused")]),
    Covered::new(
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        &[
            "trusted_ca",
            "watched_directory",
            "verify_certificate_spki",
            "verify_certificate_hash",
            "match_typed_subject_alt_names",
            "match_subject_alt_names",
            "crl",
            "allow_expired_certificate",
            "trust_chain_verification",
            "only_verify_leaf_cert_crl",
        ],
    ),
    Covered::new("envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher", &["san_type", "matcher"]),
    Covered::new(
        "envoy.config.core.v3.DataSource",
        &["filename", "inline_bytes", "inline_string", "environment_variable"],
    ),
    Covered::new("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", &[]),
];
