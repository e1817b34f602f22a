use crate::config::Switch;
use crate::decompression::{self, Library};
use body::{Decompressed, Names};
use nuncio_api::envoy::extensions::filters::http::decompressor::v3 as pb;
use nuncio_core::body::Body;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, NoRoute, Step};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry, stats};
use nuncio_wire::{HeaderMap, name};
use pb::decompressor::CommonDirectionConfig;
use std::sync::Arc;

mod body;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.decompressor";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.decompressor.v3.Decompressor",
        &["decompressor_library", "request_direction_config", "response_direction_config"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.CommonDirectionConfig",
        &["enabled", "ignore_no_transform_header"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.RequestDirectionConfig",
        &["common_config", "advertise_accept_encoding"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.ResponseDirectionConfig",
        &["common_config"],
    ),
    decompression::COVERED[0],
    decompression::COVERED[1],
    decompression::COVERED[2],
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Decompressor>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.decompressor.<library name>.<library>.`, and `request.` or `response.`
    pub struct DirectionStats {
        decompressed: Counter,
        not_decompressed: Counter,
        total_uncompressed_bytes: Counter,
        total_compressed_bytes: Counter,
    }
}

/// The filter.
pub struct Decompressor {
    library: Library,
    request: Direction,
    response: Direction,
    advertise: bool,
    names: Arc<Names>,
}

struct Direction {
    enabled: Switch,
    in_spite_of_no_transform: bool,
    stats: DirectionStats,
}

/// What a broken request is answered with, and a broken response.
const BAD_REQUEST: u16 = 400;
const BAD_GATEWAY: u16 = 502;

fn has_token(value: Option<&[u8]>, word: &[u8]) -> bool {
    value.is_some_and(|v| v.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(word)))
}

/// `accept-encoding` with `encoding` at its end, without a weight.
fn advertised(accept: Option<&[u8]>, encoding: &str) -> Vec<u8> {
    let others = accept.unwrap_or_default().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|t| {
        let bare = t.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        !t.is_empty() && bare != encoding.as_bytes()
    });
    others.chain([encoding.as_bytes()]).collect::<Vec<_>>().join(&b","[..])
}

impl Decompressor {
    /// Takes the encoding out of a head, if its body is to be decompressed.
    fn takes(&self, d: &Direction, headers: &mut HeaderMap) -> bool {
        let first = |h: &HeaderMap| {
            let all = h.get(name::CONTENT_ENCODING)?.to_vec();
            let end = all.iter().position(|b| *b == b',');
            let first = all[..end.unwrap_or(all.len())].trim_ascii().to_vec();
            Some((first, end.map(|at| all[at + 1..].trim_ascii().to_vec())))
        };
        let found = first(headers)
            .filter(|(first, _)| first.eq_ignore_ascii_case(self.library.encoding().as_bytes()));
        let transform =
            d.in_spite_of_no_transform || !has_token(headers.get(name::CACHE_CONTROL), b"no-transform");
        let Some((_, rest)) = found.filter(|_| transform && d.enabled.get()) else {
            d.stats.not_decompressed().inc();
            return false;
        };
        d.stats.decompressed().inc();
        headers.remove(name::CONTENT_LENGTH);
        match rest {
            Some(rest) => headers.set(name::CONTENT_ENCODING, &rest),
            None => drop(headers.remove(name::CONTENT_ENCODING)),
        }
        true
    }
    fn wrap(&self, d: &Direction, body: &mut Body, status: u16) {
        // A library without memory leaves what is there, and its encoding has been taken away: nobody could read it.
        if let Ok(decoder) = self.library.decoder() {
            let names = self.names.clone();
            *body = Body::source(Decompressed::new(body.take(), decoder, d.stats.clone(), names, status));
        }
    }
}

impl HttpFilter for Decompressor {
    type Config = pb::Decompressor;
    type RouteConfig = NoRoute;
    type Route = ();
    type Stream = ();

    fn new(config: pb::Decompressor, cx: &BuildCx<'_>) -> BuildResult<Decompressor> {
        let c = config.decompressor_library.as_ref();
        let c = c.ok_or("field: \"decompressor_library\", reason: is required")?;
        let library = Library::new(c)?;
        let scope = cx.scope.scope("decompressor").scope(&c.name).scope(library.stats_name());
        let direction = |c: Option<&CommonDirectionConfig>, name: &str| Direction {
            enabled: Switch::new(c.and_then(|c| c.enabled.as_ref()), cx),
            in_spite_of_no_transform: c.is_some_and(|c| c.ignore_no_transform_header),
            stats: DirectionStats::new(&scope.scope(name)),
        };
        let request = config.request_direction_config.as_ref();
        let response = config.response_direction_config.as_ref();
        let trailer =
            |what: &str| format!("x-envoy-decompressor-{}-{what}-bytes", c.name.to_ascii_lowercase());
        Ok(Decompressor {
            request: direction(request.and_then(|r| r.common_config.as_ref()), "request"),
            response: direction(response.and_then(|r| r.common_config.as_ref()), "response"),
            advertise: request.and_then(|r| r.advertise_accept_encoding).unwrap_or(true),
            names: Arc::new(Names {
                compressed: trailer("compressed"),
                uncompressed: trailer("uncompressed"),
            }),
            library,
        })
    }
    fn route(_: NoRoute, _: &BuildCx<'_>) -> BuildResult<()> {
        Ok(())
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        let headers = &mut ex.request.headers;
        if self.response.enabled.get() && self.advertise {
            let accept = headers.joined(name::ACCEPT_ENCODING);
            let accept = advertised(accept.as_deref(), self.library.encoding());
            headers.set(name::ACCEPT_ENCODING, &accept);
        }
        if !ex.request_body.is_end() && self.takes(&self.request, headers) {
            self.wrap(&self.request, &mut ex.request_body, BAD_REQUEST);
        }
        Step::Next
    }

    fn on_response<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        if let Some(head) = &mut ex.response
            && !ex.response_body.is_end()
            && self.takes(&self.response, &mut head.headers)
        {
            self.wrap(&self.response, &mut ex.response_body, BAD_GATEWAY);
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;
