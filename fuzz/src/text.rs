//! Format strings and regular expressions from configuration, applied to values from strangers.

use nuncio_api::envoy::data::accesslog::v3::AccessLogType;
use nuncio_core::address::Address;
use nuncio_core::format::{FormatCx, Formatter, HeaderFormatter, Purpose};
use nuncio_core::info::ListenerInfo;
use nuncio_core::matchers::{Regex, RegexSubstitution};
use nuncio_core::{ConnInfo, StreamInfo};
use nuncio_wire::HeaderMap;
use std::sync::Arc;

/// First line: the format; the rest: the value of some headers.
pub fn format(data: &[u8]) {
    let mut lines = data.splitn(2, |&b| b == b'\n');
    let (first, value) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let Ok(text) = std::str::from_utf8(first) else { return };
    let controls = |line: &[u8]| line.iter().filter(|b| b.is_ascii_control() && **b != b'\t').count();
    let splits = |line: &[u8]| line.iter().filter(|b| matches!(b, b'\r' | b'\n' | 0)).count();
    // Nobody outside forges a line or splits a header: control characters come from the format alone.
    if let Ok(log) = Formatter::text(text, Purpose::Log) {
        let line = with(value, |cx, out| log.append(cx, out));
        let harmless = with(b"x", |cx, out| log.append(cx, out));
        assert_eq!(controls(&line), controls(&harmless), "{text:?} gave {}", line.escape_ascii());
    }
    if let Ok(header) = HeaderFormatter::new(text) {
        let line = with(value, |cx, out| header.append(cx, out));
        let harmless = with(b"x", |cx, out| header.append(cx, out));
        assert_eq!(splits(&line), splits(&harmless), "{text:?} gave {}", line.escape_ascii());
    }
}

/// What a format makes of an exchange whose headers hold `value`.
fn with(value: &[u8], append: impl FnOnce(&FormatCx<'_>, &mut Vec<u8>)) -> Vec<u8> {
    let mut request = HeaderMap::new();
    request.append(":method", b"GET");
    request.append(":path", value);
    request.append("x", value);
    request.append("x-forwarded-client-cert", value);
    let mut response = HeaderMap::new();
    response.append("x", value);
    let remote = Address::Pipe(Arc::new("@peer".into()));
    let conn = ConnInfo::new(1, Arc::new(ListenerInfo::default()), remote.clone(), remote);
    let info = StreamInfo::new();
    let cx = FormatCx {
        request: Some(&request),
        response: Some((200, &response)),
        trailers: None,
        info: &info,
        conn: &conn,
        route: None,
        local_reply_body: value,
        log_type: AccessLogType::DownstreamEnd,
    };
    let mut out = Vec::new();
    append(&cx, &mut out);
    out
}

/// First line: the pattern; second: a substitution; the rest: the value.
pub fn regex(data: &[u8]) {
    let mut lines = data.splitn(3, |&b| b == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (pattern, substitution, value) = (next(), next(), next());
    let (Ok(pattern), Ok(substitution)) = (std::str::from_utf8(pattern), std::str::from_utf8(substitution))
    else {
        return;
    };
    match Regex::parse(pattern) {
        Ok(regex) => {
            regex.matches(value);
            assert_eq!(regex.source(), pattern);
        }
        Err(e) => assert!(!e.0.is_empty()),
    }
    if let Ok(regex) = RegexSubstitution::parse(pattern, substitution) {
        let mut out = Vec::new();
        let replaced = regex.replace_all(value, &mut out);
        assert!(replaced > 0 || out == value);
    }
}
