//! `TlsParameters`: versions, cipher suites and groups, as far as rustls has them.

use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::log;
use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};
use std::sync::Arc;

/// The cryptography with all that rustls has.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// The cryptography with the suites and groups of the configuration. Suites of TLS 1.3 are not chosen, as in Envoy.
///
/// # Errors
/// None of the suites or groups is there.
pub fn chosen(p: Option<&pb::TlsParameters>) -> BuildResult<Arc<CryptoProvider>> {
    let mut provider = default_provider();
    let Some(p) = p else { return Ok(Arc::new(provider)) };
    if !p.cipher_suites.is_empty() {
        let mut wanted = vec![];
        let names = p.cipher_suites.iter().flat_map(|s| s.trim_matches(['[', ']']).split('|'));
        for name in names {
            match SUITES.iter().find(|(n, _)| *n == name) {
                Some((_, s)) => wanted.push(*s),
                None if WITHOUT.contains(&name) => {
                    log!(
                        Config,
                        Warning,
                        "cipher suite {name} is insecure or outdated and not supported: left out"
                    );
                }
                None => {
                    let all = p.cipher_suites.join(":");
                    return Err(BuildError(format!(
                        "Failed to initialize cipher suites {all}. The following ciphers were rejected when tried \
                         individually: {name}"
                    )));
                }
            }
        }
        if wanted.is_empty() {
            return Err(BuildError::not_implemented(format_args!(
                "TlsParameters.cipher_suites: none of {} is supported",
                p.cipher_suites.join(":")
            )));
        }
        let tls13 = |s: &SupportedCipherSuite| s.tls13().is_some();
        provider.cipher_suites.retain(tls13);
        provider.cipher_suites.extend(wanted);
    }
    if !p.ecdh_curves.is_empty() {
        let group = |name: &String| -> BuildResult<&'static dyn SupportedKxGroup> {
            match GROUPS.iter().find(|(n, _)| n == name) {
                Some((_, g)) => Ok(*g),
                None => Err(BuildError(format!(
                    "Failed to initialize ECDH curves {}: {name} is not supported",
                    p.ecdh_curves.join(":")
                ))),
            }
        };
        provider.kx_groups = p.ecdh_curves.iter().map(group).collect::<BuildResult<_>>()?;
    }
    Ok(Arc::new(provider))
}

/// OpenSSL's names of the suites of TLS 1.2 that are there.
const SUITES: &[(&str, SupportedCipherSuite)] = &[
    ("ECDHE-ECDSA-AES128-GCM-SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Those Envoy has and we do not: CBC, and RSA key exchange without forward secrecy.
const WITHOUT: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
];

const GROUPS: &[(&str, &dyn SupportedKxGroup)] = &[
    ("X25519", kx_group::X25519),
    ("P-256", kx_group::SECP256R1),
    ("P-384", kx_group::SECP384R1),
    ("X25519MLKEM768", kx_group::X25519MLKEM768),
];

/// The protocol versions between the configured minimum and maximum, `default_max` when none is configured.
/// rustls has no TLS 1.0 and 1.1: as a minimum they load, as a maximum they are refused.
///
/// # Errors
/// There is none.
pub fn versions(
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

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &[&str]) -> BuildResult<Vec<rustls::CipherSuite>> {
        let cipher_suites = names.iter().map(|n| (*n).to_owned()).collect();
        let p = chosen(Some(&pb::TlsParameters { cipher_suites, ..Default::default() }))?;
        Ok(p.cipher_suites.iter().filter(|s| s.tls13().is_none()).map(|s| s.suite()).collect())
    }

    #[test]
    fn suites_are_chosen_by_openssls_names() {
        use rustls::CipherSuite as C;
        let two =
            [C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
        let names = ["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", "AES128-SHA"];
        assert_eq!(suites(&names).expect("two are there"), two);
        assert!(suites(&["AES128-SHA"]).expect_err("none is there").0.starts_with("not implemented yet"));
        assert!(suites(&["NONSENSE"]).expect_err("unknown").0.ends_with("individually: NONSENSE"));
    }

    #[test]
    fn groups_are_chosen() {
        let p = |name: &str| pb::TlsParameters { ecdh_curves: vec![name.into()], ..Default::default() };
        assert_eq!(chosen(Some(&p("P-384"))).expect("it is there").kx_groups.len(), 1);
        assert!(chosen(Some(&p("P-521"))).is_err());
    }
}
