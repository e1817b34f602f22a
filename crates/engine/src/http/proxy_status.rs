//! `proxy_status_config`: the Proxy-Status header (RFC 9209), which says why a request failed.

use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::flags::Flags;
use nuncio_core::{Exchange, Flag};
use nuncio_wire::{ResponseHead, name};
use pb::http_connection_manager::ProxyStatusConfig;
use pb::http_connection_manager::proxy_status_config::ProxyName;

/// What is read of the message.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ProxyStatusConfig",
    &[
        "remove_details",
        "remove_connection_termination_details",
        "remove_response_flags",
        "set_recommended_response_code",
        "use_node_id",
        "literal_proxy_name",
    ],
)];

/// How the header is made.
pub struct ProxyStatus {
    /// Who says it.
    name: String,
    details: bool,
    termination: bool,
    flags: bool,
    /// The status of the response becomes the one that the RFC recommends.
    recommended_code: bool,
}

/// The error types of RFC 9209 §2.3 that flags stand for, the first flag that is set counts; and the status recommended
/// for them.
const ERRORS: &[(Flag, &str, Option<u16>)] = &[
    (Flag::FailedLocalHealthCheck, "destination_unavailable", Some(503)),
    (Flag::NoHealthyUpstream, "destination_unavailable", Some(503)),
    (Flag::UpstreamRequestTimeout, "http_response_timeout", Some(504)),
    (Flag::DurationTimeout, "connection_timeout", Some(504)),
    (Flag::LocalReset, "connection_timeout", Some(504)),
    (Flag::UpstreamRemoteReset, "connection_terminated", Some(502)),
    (Flag::UpstreamConnectionFailure, "connection_refused", Some(502)),
    (Flag::UnauthorizedExternalService, "connection_refused", Some(502)),
    (Flag::UpstreamConnectionTermination, "connection_terminated", Some(502)),
    (Flag::OverloadManagerTerminated, "connection_limit_reached", Some(503)),
    (Flag::DropOverload, "connection_limit_reached", Some(503)),
    (Flag::FaultInjected, "http_request_error", None),
    (Flag::DownstreamConnectionTermination, "connection_terminated", Some(502)),
    (Flag::DownstreamRemoteReset, "connection_terminated", Some(502)),
    (Flag::UpstreamOverflow, "connection_limit_reached", Some(503)),
    (Flag::NoRouteFound, "destination_not_found", Some(500)),
    (Flag::RateLimited, "connection_limit_reached", Some(503)),
    (Flag::RateLimitServiceError, "connection_limit_reached", Some(503)),
    (Flag::UpstreamRetryLimitExceeded, "destination_unavailable", Some(503)),
    (Flag::StreamIdleTimeout, "http_response_timeout", Some(504)),
    (Flag::InvalidEnvoyRequestHeaders, "http_request_error", None),
    (Flag::DownstreamProtocolError, "http_request_error", None),
    (Flag::UpstreamMaxStreamDurationReached, "http_response_timeout", Some(504)),
    (Flag::NoFilterConfigFound, "proxy_configuration_error", Some(500)),
    (Flag::UpstreamProtocolError, "http_protocol_error", Some(502)),
    (Flag::NoClusterFound, "destination_unavailable", Some(503)),
    (Flag::DnsResolutionFailed, "dns_error", Some(502)),
];

impl ProxyStatus {
    /// From configuration; without a name of its own the proxy goes by its node's id or the value of `server`.
    pub fn new(c: &ProxyStatusConfig, node: &str, server: &str) -> ProxyStatus {
        let name = match &c.proxy_name {
            Some(ProxyName::LiteralProxyName(n)) => n.clone(),
            Some(ProxyName::UseNodeId(_)) => node.to_owned(),
            None => server.to_owned(),
        };
        ProxyStatus {
            name,
            details: !c.remove_details,
            termination: !c.remove_connection_termination_details,
            flags: !c.remove_response_flags,
            recommended_code: c.set_recommended_response_code,
        }
    }
    /// Says in the response why there is no better one, if flags say so.
    pub fn apply(&self, head: &mut ResponseHead, ex: &Exchange) {
        let info = &ex.sx.info;
        let flags = info.flags.get();
        let Some((error, code)) = error(flags) else { return };
        let mut value = format!("{}; error={error}", self.name);
        let details = info.details.borrow();
        if self.details && (!details.is_empty() || info.empty_details.get()) {
            let mut all = details.to_string();
            let ended = ex.sx.conn.ended(|e| &e.termination);
            if self.termination && !ended.is_empty() {
                all = format!("{all}; {ended}");
            }
            if self.flags {
                let short: Vec<_> = flags.iter().map(Flag::short).collect();
                all = format!("{all}; {}", short.join(","));
            }
            value = format!("{value}; details=\"{}\"", escaped(&all));
        }
        head.headers.append_to(name::PROXY_STATUS, b", ", value.as_bytes());
        if let Some(code) = code.filter(|_| self.recommended_code) {
            head.status = code;
        }
    }
}

/// The error of a stream with these flags.
fn error(flags: Flags) -> Option<(&'static str, Option<u16>)> {
    if flags.is_empty() {
        return None;
    }
    ERRORS.iter().find(|(f, ..)| flags.has(*f)).map(|(_, error, code)| (*error, *code))
}

/// What must not stand in quotes as it is.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '"' | '\'' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_list_counts() {
        let of = |all: &[Flag]| {
            let mut flags = Flags::default();
            all.iter().for_each(|f| flags.set(*f));
            error(flags)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Flag::DelayInjected]), None);
        let both = [Flag::UpstreamRetryLimitExceeded, Flag::UpstreamConnectionFailure];
        assert_eq!(of(&both), Some(("connection_refused", Some(502))));
        assert_eq!(of(&[Flag::FaultInjected]), Some(("http_request_error", None)));
    }

    #[test]
    fn quotes() {
        assert_eq!(escaped("a\"b'c\\d\r\n\t\u{b}é"), "a\\\"b\\'c\\\\d\\r\\n\\t\\vé");
    }

    #[test]
    fn names() {
        let of = |proxy_name| {
            ProxyStatus::new(&ProxyStatusConfig { proxy_name, ..Default::default() }, "n", "s").name
        };
        assert_eq!(of(None), "s");
        assert_eq!(of(Some(ProxyName::UseNodeId(true))), "n");
        assert_eq!(of(Some(ProxyName::LiteralProxyName("me".into()))), "me");
    }
}
