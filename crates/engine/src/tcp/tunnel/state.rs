//! The headers of a tunnel's answer as objects of the filter state (`propagate_response_headers`).

use nuncio_core::filter_state::StateObject;
use nuncio_wire::{HeaderMap, ResponseHead};
use prost_types::{ListValue, Struct, Value, value::Kind};

/// Names and values, as `envoy.config.core.v3.HeaderMap` has them.
pub struct Headers(Value);

impl Headers {
    /// Those of a response, the status first.
    pub fn of_response(head: &ResponseHead) -> Headers {
        let status = head.status.to_string();
        Headers::of(std::iter::once((&b":status"[..], status.as_bytes())).chain(pairs(&head.headers)))
    }
    /// Trailers.
    pub fn of_trailers(trailers: &HeaderMap) -> Headers {
        Headers::of(pairs(trailers))
    }
    fn of<'a>(all: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Headers {
        let text =
            |b: &[u8]| Value { kind: Some(Kind::StringValue(String::from_utf8_lossy(b).into_owned())) };
        let one = |(name, value): (&[u8], &[u8])| {
            let fields = [("key".to_owned(), text(name)), ("value".to_owned(), text(value))];
            Value { kind: Some(Kind::StructValue(Struct { fields: fields.into() })) }
        };
        let list = Value { kind: Some(Kind::ListValue(ListValue { values: all.map(one).collect() })) };
        Headers(Value {
            kind: Some(Kind::StructValue(Struct { fields: [("headers".to_owned(), list)].into() })),
        })
    }
}

fn pairs(h: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    h.iter().map(|h| (h.name, h.value))
}

impl StateObject for Headers {
    fn fields(&self) -> Option<&Value> {
        Some(&self.0)
    }
}
