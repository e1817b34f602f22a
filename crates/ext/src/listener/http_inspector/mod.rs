use nuncio_api::envoy::extensions::filters::listener::http_inspector::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::listener_filter::{Inspection, ListenerFilter, Verdict};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry, stats};

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.listener.http_inspector";

/// What is read of its configuration.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", &[])];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.listener_filter::<HttpInspector>(NAME, docs);
}

stats! {
    /// `http_inspector.`
    pub struct HttpInspectorStats {
        read_error: Counter,
        http10_found: Counter,
        http11_found: Counter,
        http2_found: Counter,
        http_not_found: Counter,
    }
}

/// Longest request line looked at (Envoy's limit).
const MAX: usize = 64 * 1024;

/// How a client begins with HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The filter.
pub struct HttpInspector(HttpInspectorStats);

/// What the first bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Http10,
    Http11,
    Http2,
    /// No HTTP.
    Nothing,
    /// Too little to say.
    Partial,
}

impl ListenerFilter for HttpInspector {
    type Config = pb::HttpInspector;
    type State = ();

    fn new(_: pb::HttpInspector, cx: &BuildCx<'_>) -> BuildResult<HttpInspector> {
        // Not below the listener: Envoy counts for all of them together.
        Ok(HttpInspector(HttpInspectorStats::new(&cx.scope.store().root().scope("http_inspector"))))
    }
    fn on_accept(&self, _: &mut (), at: &mut Inspection<'_>) -> Verdict {
        match at.detected.transport_protocol {
            "" | "raw_buffer" => Verdict::More,
            _ => Verdict::Next(0),
        }
    }
    fn on_data(&self, _: &mut (), data: &[u8], at: &mut Inspection<'_>) -> Verdict {
        let s = &self.0;
        let (counter, protocol) = match inspect(data) {
            Found::Partial if data.len() >= MAX => {
                s.read_error().inc();
                return Verdict::Close;
            }
            Found::Partial => return Verdict::More,
            Found::Nothing => {
                s.http_not_found().inc();
                return Verdict::Next(0);
            }
            Found::Http10 => (s.http10_found(), "http/1.0"),
            Found::Http11 => (s.http11_found(), "http/1.1"),
            Found::Http2 => (s.http2_found(), "h2c"),
        };
        counter.inc();
        at.detected.application_protocols = vec![protocol.into()];
        Verdict::Next(0)
    }
    fn max_bytes(&self) -> usize {
        MAX
    }
}

fn inspect(data: &[u8]) -> Found {
    let n = data.len().min(PREFACE.len());
    if data[..n] == PREFACE[..n] {
        return if n == PREFACE.len() { Found::Http2 } else { Found::Partial };
    }
    match data.iter().position(|b| *b == b'\n') {
        _ if matches!(data.first(), Some(b'\r' | b'\n')) => Found::Nothing,
        None => Found::Partial,
        Some(end) => line(&data[..end]),
    }
}

/// A request line; one without a version is of HTTP/0.9, which counts as 1.0.
fn line(line: &[u8]) -> Found {
    let mut parts = line.split(|b| matches!(b, b' ' | b'\t' | b'\r')).filter(|p| !p.is_empty());
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return Found::Nothing };
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if !method.iter().all(token) || !is_target(target, method == b"CONNECT") {
        return Found::Nothing;
    }
    match (parts.next(), parts.next()) {
        (None, _) => Found::Http10,
        (Some(b"HTTP/1.1"), None) => Found::Http11,
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Found::Http10
        }
        _ => Found::Nothing,
    }
}

fn is_target(t: &[u8], connect: bool) -> bool {
    let visible = t.iter().all(|b| (b'!'..=b'~').contains(b) || *b == 0x0c);
    let absolute = || {
        let scheme = t.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count();
        t[0].is_ascii_alphabetic() && t[scheme..].starts_with(b"://")
    };
    visible && (matches!(t[0], b'/' | b'*') || connect || absolute())
}
