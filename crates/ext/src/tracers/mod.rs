//! Tracers (`envoy.tracers`). Each worker keeps its spans until there are some, or some time has passed ([`buffer`]).

mod buffer;
mod collector;
mod w3c;

extensions![opentelemetry, zipkin];
