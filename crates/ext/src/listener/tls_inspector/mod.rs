use nuncio_api::envoy::extensions::filters::listener::tls_inspector::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::listener_filter::{Inspection, ListenerFilter, Verdict};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry, stats};
use nuncio_wire::tls::{ClientHello, MAX_CLIENT_HELLO, NotTls, Opening, opening};
use prost_types::{Struct, Value, value::Kind};

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.listener.tls_inspector";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    &["close_connection_on_client_hello_parsing_errors", "max_client_hello_size"],
)
.ignoring(&[("initial_read_buffer_size", "what was read is not read again: there is no buffer to grow")])];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.listener_filter::<TlsInspector>(NAME, docs);
}

stats! {
    /// `tls_inspector.`
    pub struct TlsInspectorStats {
        client_hello_too_large: Counter,
        tls_found: Counter,
        tls_not_found: Counter,
        alpn_found: Counter,
        alpn_not_found: Counter,
        sni_found: Counter,
        sni_not_found: Counter,
        bytes_processed: Histogram(Bytes),
    }
}

/// The filter.
pub struct TlsInspector {
    close_on_errors: bool,
    max: usize,
    stats: TlsInspectorStats,
}

impl ListenerFilter for TlsInspector {
    type Config = pb::TlsInspector;
    type State = ();

    fn new(config: pb::TlsInspector, cx: &BuildCx<'_>) -> BuildResult<TlsInspector> {
        Ok(TlsInspector {
            close_on_errors: config.close_connection_on_client_hello_parsing_errors,
            max: config.max_client_hello_size.map_or(MAX_CLIENT_HELLO, |n| n as usize),
            // Not below the listener: Envoy counts for all of them together.
            stats: TlsInspectorStats::new(&cx.scope.store().root().scope("tls_inspector")),
        })
    }
    fn on_data(&self, _: &mut (), data: &[u8], at: &mut Inspection<'_>) -> Verdict {
        match opening(data) {
            Opening::Partial if data.len() < self.max => Verdict::More,
            Opening::Partial => {
                self.too_large(at);
                self.stats.bytes_processed().record(data.len() as u64);
                Verdict::Close
            }
            Opening::Hello(hello) => {
                self.stats.bytes_processed().record(hello.len as u64);
                self.found(hello, at);
                Verdict::Next(0)
            }
            Opening::NotTls(why) => {
                self.stats.bytes_processed().record(data.len().min(5) as u64);
                if self.close_on_errors {
                    if data.len() >= self.max {
                        self.too_large(at);
                    }
                    return Verdict::Close;
                }
                self.stats.tls_not_found().inc();
                say(at, "ClientHelloNotDetected");
                *at.conn.end().transport_failure.borrow_mut() = failure(why).into();
                Verdict::Next(0)
            }
        }
    }
    fn max_bytes(&self) -> usize {
        self.max
    }
}

impl TlsInspector {
    fn found(&self, hello: ClientHello, at: &mut Inspection<'_>) {
        let s = &self.stats;
        s.tls_found().inc();
        at.detected.transport_protocol = "tls";
        match hello.protocols {
            Some(all) => {
                s.alpn_found().inc();
                at.detected.application_protocols = all;
            }
            None => s.alpn_not_found().inc(),
        }
        match hello.server_name {
            Some(name) => {
                s.sni_found().inc();
                at.detected.server_name = String::from_utf8_lossy(&name).to_ascii_lowercase();
            }
            None => s.sni_not_found().inc(),
        }
    }
    fn too_large(&self, at: &mut Inspection<'_>) {
        self.stats.client_hello_too_large().inc();
        say(at, "ClientHelloTooLarge");
    }
}

/// Says in the connection's metadata why there was no ClientHello.
fn say(at: &mut Inspection<'_>, reason: &str) {
    let value = Value { kind: Some(Kind::StringValue(reason.to_owned())) };
    let fields = [("failure_reason".to_owned(), value)].into();
    at.conn.metadata.borrow_mut().merge(NAME, Struct { fields });
}

/// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`, in BoringSSL's words.
fn failure(why: NotTls) -> String {
    let (number, name) = why.reason();
    format!("TLS_error|error:{:08x}:SSL routines:OPENSSL_internal:{name}:TLS_error_end", 0x1000_0000 + number)
}
