//! Tracers (`envoy.tracers`). Each worker keeps its spans until there are some, or some time has passed ([`buffer`]).

use nuncio_wire::{AsName, HeaderMap};

mod buffer;
pub(crate) mod collector;
mod w3c;

extensions![opentelemetry, zipkin];

/// Sets a header of a trace. It comes last, as in Envoy, also when it was there.
fn put(h: &mut HeaderMap, name: impl AsName + Copy, value: &[u8]) {
    h.remove(name);
    h.append(name, value);
}
