//! `target_uri` (gRPC's "Name Resolution").

use crate::error::{BuildError, BuildResult};
use std::net::{IpAddr, SocketAddr};

/// Where a channel leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Name(String, u16),
    Addresses(Vec<SocketAddr>),
    Unix(String),
}

/// Where `target_uri` leads, and what its requests have for an authority (gRPC's "Name Resolution").
pub(super) fn target(uri: &str) -> BuildResult<(Target, String)> {
    let (scheme, rest) = match uri.split_once(':') {
        Some((s @ ("dns" | "ipv4" | "ipv6" | "unix" | "unix-abstract"), rest)) => (s, rest),
        Some((s @ ("xds" | "google-c2p" | "vsock"), _)) => {
            return Err(BuildError::not_implemented(format_args!("GoogleGrpc.target_uri of {s}:")));
        }
        _ => ("dns", uri),
    };
    let wrong = || BuildError(format!("invalid target_uri '{uri}'"));
    match scheme {
        "unix" | "unix-abstract" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let path = if scheme == "unix" { path.to_owned() } else { format!("@{path}") };
            Ok((Target::Unix(path), "localhost".to_owned()))
        }
        "ipv4" | "ipv6" => {
            let list = rest.trim_start_matches('/');
            let address = |a: &str| {
                a.parse().or_else(|_| Ok::<_, std::net::AddrParseError>((a.parse::<IpAddr>()?, 443).into()))
            };
            let all: Result<Vec<SocketAddr>, _> = list.split(',').map(address).collect();
            Ok((Target::Addresses(all.map_err(|_| wrong())?), list.to_owned()))
        }
        _ => {
            let name = match rest.strip_prefix("//") {
                None => rest,
                Some(r) if r.starts_with('/') => r.trim_start_matches('/'),
                Some(_) if uri.starts_with("dns:") => {
                    return Err(BuildError::not_implemented("GoogleGrpc.target_uri with a DNS server"));
                }
                Some(_) => rest,
            };
            if let Ok(a) = name.parse::<SocketAddr>() {
                return Ok((Target::Addresses(vec![a]), name.to_owned()));
            }
            if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
                return Ok((Target::Addresses(vec![(ip, 443).into()]), name.to_owned()));
            }
            let (host, port) = match name.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
                None => (name, 443),
            };
            if host.is_empty() || host.contains(['/', ':']) {
                return Err(wrong());
            }
            Ok((Target::Name(host.to_owned(), port), name.to_owned()))
        }
    }
}

/// Without the port.
pub(super) fn host_of(authority: &str) -> &str {
    if authority.parse::<IpAddr>().is_ok() {
        return authority;
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let name = |h: &str, p| Target::Name(h.to_owned(), p);
        let address =
            |all: &[&str]| Target::Addresses(all.iter().map(|a| a.parse().expect("an address")).collect());
        for (uri, to, authority) in [
            ("dns:///a.example:80", name("a.example", 80), "a.example:80"),
            ("dns:a.example", name("a.example", 443), "a.example"),
            ("localhost:9002", name("localhost", 9002), "localhost:9002"),
            ("127.0.0.1:9002", address(&["127.0.0.1:9002"]), "127.0.0.1:9002"),
            ("[::1]", address(&["[::1]:443"]), "[::1]"),
            (
                "ipv4:127.0.0.1:1,127.0.0.2",
                address(&["127.0.0.1:1", "127.0.0.2:443"]),
                "127.0.0.1:1,127.0.0.2",
            ),
            ("ipv6:[::1]:2", address(&["[::1]:2"]), "[::1]:2"),
            ("unix:///run/x", Target::Unix("/run/x".into()), "localhost"),
            ("unix:run/x", Target::Unix("run/x".into()), "localhost"),
            ("unix-abstract:x", Target::Unix("@x".into()), "localhost"),
        ] {
            assert_eq!(target(uri).expect(uri), (to, authority.to_owned()), "{uri}");
        }
        for uri in ["xds:///a", "dns://8.8.8.8/a", "ipv4:a.example", "a:b", "http://a:1", ":1", ""] {
            assert!(target(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn hosts() {
        for (authority, host) in
            [("a:1", "a"), ("a", "a"), ("[::1]:2", "::1"), ("::1", "::1"), ("127.0.0.1:3", "127.0.0.1")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}
