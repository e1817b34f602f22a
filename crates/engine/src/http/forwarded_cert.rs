//! `x-forwarded-client-cert`: what a client's certificate says, for those behind us (`forward_client_cert_details`).

use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::info::{CertInfo, TlsInfo};
use nuncio_wire::{HeaderMap, name};

/// What is read of the messages about it.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
    &["subject", "cert", "chain", "dns", "uri", "issuer"],
)];

/// What happens to the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ForwardedCert {
    /// `SANITIZE`: it is removed.
    #[default]
    Remove,
    /// `FORWARD_ONLY`: it stays if the client has a certificate.
    KeepIfPresented,
    /// `ALWAYS_FORWARD_ONLY`: it stays.
    Keep,
    /// `APPEND_FORWARD`: the client's certificate is added to it.
    Append(Details),
    /// `SANITIZE_SET`: it says the client's certificate and nothing else.
    Set(Details),
}

/// `set_current_client_cert_details`: what is said beside our own URIs and the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Details {
    cert: bool,
    chain: bool,
    subject: bool,
    uri: bool,
    dns: bool,
    issuer: bool,
}

impl ForwardedCert {
    /// From configuration.
    pub fn new(mode: i32, details: Option<&pb::SetCurrentClientCertDetails>) -> ForwardedCert {
        let d = details.copied().unwrap_or_default();
        let details = Details {
            cert: d.cert,
            chain: d.chain,
            subject: d.subject.unwrap_or(false),
            issuer: d.issuer,
            uri: d.uri,
            dns: d.dns,
        };
        use pb::ForwardClientCertDetails as Mode;
        match Mode::try_from(mode) {
            Ok(Mode::ForwardOnly) => ForwardedCert::KeepIfPresented,
            Ok(Mode::AlwaysForwardOnly) => ForwardedCert::Keep,
            Ok(Mode::AppendForward) => ForwardedCert::Append(details),
            Ok(Mode::SanitizeSet) => ForwardedCert::Set(details),
            Ok(Mode::Sanitize) | Err(_) => ForwardedCert::Remove,
        }
    }
    /// Changes the header of a request that came over a connection with these TLS facts.
    pub fn apply(self, h: &mut HeaderMap, tls: Option<&TlsInfo>) {
        let peer = tls.and_then(|t| Some((t, t.peer.as_deref()?)));
        match (self, peer) {
            (ForwardedCert::Keep, _) | (ForwardedCert::KeepIfPresented, Some(_)) => {}
            (ForwardedCert::Append(d), Some((tls, peer))) => {
                h.append_to(name::X_FORWARDED_CLIENT_CERT, b",", d.text(tls, peer).as_bytes());
            }
            (ForwardedCert::Set(d), Some((tls, peer))) => {
                h.set(name::X_FORWARDED_CLIENT_CERT, d.text(tls, peer).as_bytes());
            }
            _ => drop(h.remove(name::X_FORWARDED_CLIENT_CERT)),
        }
    }
}

impl Details {
    /// `key=value` pairs in Envoy's order.
    fn text(self, tls: &TlsInfo, peer: &CertInfo) -> String {
        let mut out = Pairs(String::with_capacity(128));
        for uri in tls.local.iter().flat_map(|l| &l.uri_sans) {
            out.add("By", &[uri]);
        }
        out.add("Hash", &[&peer.fingerprint_256]);
        if self.cert {
            out.add("Cert", &["\"", &peer.pem_urlencoded, "\""]);
        }
        if self.chain {
            out.add("Chain", &["\"", &peer.pem_urlencoded, &tls.peer_intermediates, "\""]);
        }
        if self.subject {
            out.add("Subject", &["\"", &peer.subject, "\""]);
        }
        if self.uri {
            // The key is there even if there is no such name.
            for uri in &peer.uri_sans {
                out.add("URI", &[uri]);
            }
            if peer.uri_sans.is_empty() {
                out.add("URI", &[]);
            }
        }
        if self.dns {
            for dns in &peer.dns_sans {
                out.add("DNS", &[dns]);
            }
        }
        if self.issuer {
            out.add("Issuer", &["\"", &peer.issuer, "\""]);
        }
        out.0
    }
}

struct Pairs(String);

impl Pairs {
    fn add(&mut self, key: &str, value: &[&str]) {
        if !self.0.is_empty() {
            self.0.push(';');
        }
        self.0.push_str(key);
        self.0.push('=');
        value.iter().for_each(|v| self.0.push_str(v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn client(uris: &[&str]) -> TlsInfo {
        let cert = |c: CertInfo| Some(Arc::new(c));
        TlsInfo {
            peer: cert(CertInfo {
                subject: "CN=me".into(),
                issuer: "CN=ca".into(),
                fingerprint_256: "ab12".into(),
                pem_urlencoded: "PEM".into(),
                uri_sans: uris.iter().map(|u| (*u).to_owned()).collect(),
                dns_sans: vec!["a.example".into(), "b.example".into()],
                ..CertInfo::default()
            }),
            local: cert(CertInfo { uri_sans: vec!["spiffe://us".into()], ..CertInfo::default() }),
            peer_intermediates: "CA".into(),
            ..TlsInfo::default()
        }
    }
    fn run(mode: pb::ForwardClientCertDetails, came: Option<&str>, tls: Option<&TlsInfo>) -> Option<String> {
        let d = pb::SetCurrentClientCertDetails { subject: Some(true), uri: true, ..Default::default() };
        let mut h = HeaderMap::new();
        if let Some(v) = came {
            h.append(name::X_FORWARDED_CLIENT_CERT, v.as_bytes());
        }
        ForwardedCert::new(mode as i32, Some(&d)).apply(&mut h, tls);
        h.get_str(name::X_FORWARDED_CLIENT_CERT).map(str::to_owned)
    }

    #[test]
    fn modes() {
        use pb::ForwardClientCertDetails as M;
        let tls = client(&["spiffe://me"]);
        let ours = "By=spiffe://us;Hash=ab12;Subject=\"CN=me\";URI=spiffe://me";
        for (mode, with_cert, without) in [
            (M::Sanitize, None, None),
            (M::ForwardOnly, Some("old".to_owned()), None),
            (M::AlwaysForwardOnly, Some("old".to_owned()), Some("old".to_owned())),
            (M::AppendForward, Some(format!("old,{ours}")), None),
            (M::SanitizeSet, Some(ours.to_owned()), None),
        ] {
            assert_eq!(run(mode, Some("old"), Some(&tls)), with_cert, "{mode:?}");
            assert_eq!(run(mode, Some("old"), None), without, "{mode:?} without TLS");
            let anonymous = TlsInfo::default();
            assert_eq!(run(mode, Some("old"), Some(&anonymous)), without, "{mode:?} without certificate");
        }
        assert_eq!(run(M::AppendForward, None, Some(&tls)).as_deref(), Some(ours));
    }

    #[test]
    fn every_detail() {
        let all = Details { cert: true, chain: true, subject: true, issuer: true, uri: true, dns: true };
        let tls = client(&[]);
        let peer = tls.peer.clone().expect("set above");
        assert_eq!(
            all.text(&tls, &peer),
            "By=spiffe://us;Hash=ab12;Cert=\"PEM\";Chain=\"PEMCA\";Subject=\"CN=me\";URI=;DNS=a.example;\
             DNS=b.example;Issuer=\"CN=ca\""
        );
    }
}
