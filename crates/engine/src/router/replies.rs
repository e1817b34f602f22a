//! The replies the router makes.

use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::{Flag, LocalReply};
use nuncio_wire::name;

/// No route matched.
pub fn no_route() -> LocalReply {
    LocalReply::new(404, "", "route_not_found").flag(Flag::NoRouteFound)
}
/// An operator takes requests away from the cluster.
pub fn maintenance(envoy_headers: bool) -> LocalReply {
    let r = LocalReply::new(503, "maintenance mode", "maintenance_mode").flag(Flag::UpstreamOverflow);
    if envoy_headers { r.header(name::X_ENVOY_OVERLOADED, b"true") } else { r }
}
/// The cluster has no host to offer.
pub fn no_healthy_upstream() -> LocalReply {
    LocalReply::new(503, "no healthy upstream", "no_healthy_upstream").flag(Flag::NoHealthyUpstream)
}
/// The response did not come in time; 204 tells the client nothing more.
pub fn timeout(status: u16, details: &'static str) -> LocalReply {
    let body = if status == 504 { "upstream request timeout" } else { "" };
    LocalReply::new(status, body, details).flag(Flag::UpstreamRequestTimeout)
}
/// A filter took a header away without which no request can be sent.
pub fn missing_header(id: name::Id) -> LocalReply {
    let details =
        format!("filter_removed_required_request_headers{{missing_required_header:_{}}}", id.text());
    LocalReply::new(503, format!("missing required header: {}", id.text()), details)
        .flag(Flag::DownstreamProtocolError)
}
/// What an exchange counts as that ended for `reason` before its response began.
pub fn reset_status(reason: ResetReason) -> u16 {
    if reason == ResetReason::ProtocolError { 502 } else { 503 }
}
/// The upstream exchange ended before its response began.
/// `started`: an informational head came before. `retried`: it was not the first attempt.
pub fn reset(e: &StreamError, started: bool, retried: bool) -> LocalReply {
    use nuncio_core::ResetReason::*;
    let reason = e.reason.text();
    let status = reset_status(e.reason);
    let retried = if retried { "retried and the latest " } else { "" };
    let body =
        format!("upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}");
    let when = if started { "after" } else { "before" };
    let details = match e.transport.is_empty() {
        true => format!("upstream_reset_{when}_response_started{{{reason}}}"),
        false => format!("upstream_reset_{when}_response_started{{{reason}|{}}}", e.transport),
    };
    let r = LocalReply::new(status, body, details.replace(' ', "_")).flag(e.reason.flag());
    match e.reason {
        Overflow | PendingOverflow => r.header(name::X_ENVOY_OVERLOADED, b"true"),
        _ => r,
    }
}
