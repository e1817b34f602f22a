//! Dates as protobuf's JSON prints them.

use nuncio_core::calendar::Civil;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn date(at: Duration) -> String {
    let d = Civil::of(at.as_secs().cast_signed());
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", d.year, d.month, d.day, d.hour, d.minute, d.second)
}

/// `2026-11-21T04:04:16Z`
pub fn rfc3339_seconds(at: SystemTime) -> String {
    format!("{}Z", date(since_epoch(at)))
}

/// `2026-11-21T04:04:16.123Z`; without a fraction when it is zero.
pub fn rfc3339_millis(at: SystemTime) -> String {
    let at = since_epoch(at);
    match at.subsec_millis() {
        0 => format!("{}Z", date(at)),
        ms => format!("{}.{ms:03}Z", date(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_protobuf_prints_them() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_234_025_007);
        assert_eq!(rfc3339_millis(at), "2026-11-21T04:07:05.007Z");
        assert_eq!(rfc3339_seconds(at), "2026-11-21T04:07:05Z");
        assert_eq!(rfc3339_millis(UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
