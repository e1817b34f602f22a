//! What the service says of limits, as headers (draft-polli-ratelimit-headers-03).

use nuncio_api::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, rate_limit::Unit,
};
use nuncio_wire::HeaderMap;
use std::fmt::Write;

/// A unit in seconds.
fn window(unit: Unit) -> Option<u32> {
    const DAY: u32 = 24 * 60 * 60;
    match unit {
        Unit::Unknown => None,
        Unit::Second => Some(1),
        Unit::Minute => Some(60),
        Unit::Hour => Some(60 * 60),
        Unit::Day => Some(DAY),
        Unit::Week => Some(7 * DAY),
        Unit::Month => Some(30 * DAY),
        Unit::Year => Some(365 * DAY),
    }
}

/// Appends `x-ratelimit-limit`, `-remaining` and `-reset` of the limit that is closest, with the list of all.
pub fn headers(statuses: &[DescriptorStatus], h: &mut HeaderMap) {
    let limits = || statuses.iter().filter_map(|s| s.current_limit.as_ref().map(|l| (s, l)));
    // The first of those that are equally close.
    let Some((closest, limit)) = limits().min_by_key(|(s, _)| s.limit_remaining) else { return };
    let mut text = limit.requests_per_unit.to_string();
    for (_, l) in limits() {
        let Some(window) = window(l.unit()) else { continue };
        let window = u64::from(window) * u64::from(l.unit_multiplier.unwrap_or(1));
        // Writing to a string cannot fail.
        let _ = write!(text, ", {};w={window}", l.requests_per_unit);
        if !l.name.is_empty() {
            let _ = write!(text, ";name=\"{}\"", l.name);
        }
    }
    h.append("x-ratelimit-limit", text.as_bytes());
    h.append("x-ratelimit-remaining", closest.limit_remaining.to_string().as_bytes());
    let reset = closest.duration_until_reset.as_ref().map_or(0, |d| d.seconds);
    h.append("x-ratelimit-reset", reset.to_string().as_bytes());
}

/// When the last of the limits that are exceeded begins anew, in seconds.
pub fn reset(statuses: &[DescriptorStatus]) -> Option<i64> {
    let over = statuses.iter().filter(|s| s.code() == Code::OverLimit);
    over.map(|s| s.duration_until_reset.as_ref().map_or(0, |d| d.seconds)).max()
}
