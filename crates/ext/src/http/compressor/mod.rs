use crate::compression::{self, Library};
use crate::config::Switch;
use accept::{Chain, How, choose};
use body::Compressed;
use nuncio_api::envoy::extensions::filters::http::compressor::v3 as pb;
use nuncio_core::body::Body;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::filter_state::LifeSpan;
use nuncio_core::matchers::StringMatcher;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry, stats};
use nuncio_wire::{HeaderMap, name};
use pb::compressor::{CommonDirectionConfig, ResponseDirectionConfig};
use std::rc::Rc;
use std::sync::Arc;

mod accept;
mod body;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.compressor";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.compressor.v3.Compressor",
        &[
            "content_length",
            "content_type",
            "disable_on_etag_header",
            "remove_accept_encoding_header",
            "runtime_enabled",
            "compressor_library",
            "request_direction_config",
            "response_direction_config",
            "choose_first",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.compressor.v3.Compressor.CommonDirectionConfig",
        &["enabled", "min_content_length", "content_type", "content_type_matcher"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.compressor.v3.Compressor.RequestDirectionConfig",
        &["common_config"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.compressor.v3.Compressor.ResponseDirectionConfig",
        &[
            "common_config",
            "disable_on_etag_header",
            "weaken_etag_on_compress",
            "remove_accept_encoding_header",
            "uncompressible_response_codes",
            "status_header_enabled",
        ],
    ),
    Covered::new(
        "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
        &["disabled", "overrides"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.compressor.v3.CompressorOverrides",
        &["response_direction_config", "compressor_library"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.compressor.v3.ResponseDirectionOverrides",
        &["remove_accept_encoding_header"],
    ),
    compression::COVERED[0],
    compression::COVERED[1],
    compression::COVERED[2],
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Compressor>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.compressor.<library name>.<library>.`, and `request.` or `response.`
    pub struct CommonStats {
        compressed: Counter,
        not_compressed: Counter,
        total_uncompressed_bytes: Counter,
        total_compressed_bytes: Counter,
        content_length_too_small: Counter,
    }
    /// Below the same without direction: what responses have besides.
    pub struct ResponseStats {
        no_accept_header: Counter,
        header_identity: Counter,
        header_compressor_used: Counter,
        header_compressor_overshadowed: Counter,
        header_wildcard: Counter,
        header_not_valid: Counter,
        not_compressed_etag: Counter,
    }
}

/// What is compressed where no content types are configured.
const TYPES: &[&str] = &[
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
    "application/grpc-web",
    "application/grpc-web+proto",
];

/// Shorter messages grow.
const MIN_LENGTH: u64 = 30;

/// The filter.
pub struct Compressor(Arc<Config>);

/// What the filters of a chain know of each other.
pub struct Config {
    library: Library,
    request: Option<Direction>,
    request_stats: CommonStats,
    response: Direction,
    response_stats: CommonStats,
    stats: ResponseStats,
    choose_first: bool,
    no_etag: bool,
    weaken_etag: bool,
    remove_accept: bool,
    never: Vec<u32>,
    status_header: bool,
}

struct Direction {
    enabled: Switch,
    min: u64,
    types: Vec<String>,
    matchers: Vec<StringMatcher>,
}

impl Direction {
    fn new(c: &CommonDirectionConfig, cx: &BuildCx<'_>) -> BuildResult<Direction> {
        let matchers: Vec<_> =
            c.content_type_matcher.iter().map(StringMatcher::new).collect::<BuildResult<_>>()?;
        let mut types = c.content_type.clone();
        if types.is_empty() && matchers.is_empty() {
            types = TYPES.iter().map(|t| (*t).to_owned()).collect();
        }
        Ok(Direction {
            enabled: Switch::new(c.enabled.as_ref(), cx),
            min: c.min_content_length.map(u64::from).filter(|n| *n > 0).unwrap_or(MIN_LENGTH),
            types,
            matchers,
        })
    }
    /// One without a type may be compressed.
    fn takes_type(&self, headers: &HeaderMap) -> bool {
        let Some(t) = headers.get(name::CONTENT_TYPE) else { return true };
        let t = t.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|w| w.as_bytes().eq_ignore_ascii_case(t))
            || self.matchers.iter().any(|m| m.matches(t))
    }
    /// One without a length may be.
    fn is_long_enough(&self, headers: &HeaderMap, stats: &CommonStats) -> bool {
        let Some(n) = headers.get(name::CONTENT_LENGTH) else { return true };
        let n = std::str::from_utf8(n).ok().and_then(|n| n.trim().parse::<u64>().ok());
        let enough = n.is_some_and(|n| n >= self.min);
        if !enough {
            stats.content_length_too_small().inc();
        }
        enough
    }
}

/// The config of a route.
pub struct RouteConfig {
    enabled: Option<bool>,
    remove_accept: Option<bool>,
    library: Option<Library>,
}

/// What is known of an exchange.
#[derive(Default)]
pub struct Seen {
    route: Option<Option<Arc<RouteConfig>>>,
    accept: Option<String>,
}

impl Config {
    fn new(c: &pb::Compressor, cx: &BuildCx<'_>) -> BuildResult<Config> {
        let library =
            c.compressor_library.as_ref().ok_or("field: \"compressor_library\", reason: is required")?;
        let library_name = &library.name;
        let library = Library::new(library)?;
        let scope = cx.scope.scope("compressor").scope(library_name).scope(library.stats_name());
        let older;
        let (response, response_scope) = match &c.response_direction_config {
            Some(r) => (&**r, scope.scope("response")),
            None => {
                older = of_older_fields(c);
                (&older, scope.clone())
            }
        };
        let none = CommonDirectionConfig::default();
        let request = c.request_direction_config.as_ref();
        let request = request.map(|r| Direction::new(r.common_config.as_ref().unwrap_or(&none), cx));
        Ok(Config {
            request: request.transpose()?,
            request_stats: CommonStats::new(&scope.scope("request")),
            response: Direction::new(response.common_config.as_ref().unwrap_or(&none), cx)?,
            response_stats: CommonStats::new(&response_scope),
            stats: ResponseStats::new(&scope),
            choose_first: c.choose_first,
            no_etag: response.disable_on_etag_header,
            weaken_etag: response.weaken_etag_on_compress,
            remove_accept: response.remove_accept_encoding_header,
            never: response.uncompressible_response_codes.clone(),
            status_header: response.status_header_enabled,
            library,
        })
    }
}

/// The fields of the filter itself that were there before `response_direction_config`.
fn of_older_fields(c: &pb::Compressor) -> ResponseDirectionConfig {
    ResponseDirectionConfig {
        common_config: Some(CommonDirectionConfig {
            enabled: c.runtime_enabled.clone(),
            min_content_length: c.content_length,
            content_type: c.content_type.clone(),
            ..Default::default()
        }),
        disable_on_etag_header: c.disable_on_etag_header,
        remove_accept_encoding_header: c.remove_accept_encoding_header,
        ..Default::default()
    }
}

/// True when one of the parts between commas is `word`.
fn has_token(value: Option<&[u8]>, word: &[u8]) -> bool {
    value.is_some_and(|v| v.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(word)))
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains(name::UPGRADE) && has_token(headers.get(name::CONNECTION), b"upgrade")
}

/// True unless the message is compressed already.
fn may_be_encoded(headers: &HeaderMap) -> bool {
    let known: [&[u8]; 5] = [b"gzip", b"br", b"deflate", b"compress", b"zstd"];
    let v = headers.get(name::TRANSFER_ENCODING);
    v.is_none() || !known.iter().any(|k| has_token(v, k))
}

impl Compressor {
    fn route(st: &mut Seen, ex: &Exchange) -> Option<Arc<RouteConfig>> {
        st.route.get_or_insert_with(|| ex.route_config()).clone()
    }
    /// The compressors of this chain; this one is among them afterwards.
    fn chain(&self, route: Option<&RouteConfig>, ex: &Exchange) -> Rc<Chain> {
        const KEY: &str = "compressors";
        let mut state = ex.sx.info.filter_state.borrow_mut();
        let chain = state.get_as::<Chain>(KEY).unwrap_or_else(|| {
            let new = Rc::new(Chain::default());
            state.set(KEY, LifeSpan::FilterChain, new.clone());
            new
        });
        let mut members = chain.members.borrow_mut();
        if !members.iter().any(|m| Arc::ptr_eq(&m.0, &self.0)) {
            let library = route.and_then(|r| r.library.as_ref()).unwrap_or(&self.0.library);
            members.push((self.0.clone(), library.encoding()));
        }
        drop(members);
        chain
    }
    /// Whether this filter is the one that the client's header asks for; counts why.
    fn is_asked_for(&self, st: &Seen, route: Option<&RouteConfig>, library: &Library, ex: &Exchange) -> bool {
        let stats = &self.0.stats;
        let Some(accept) = &st.accept else {
            stats.no_accept_header().inc();
            return false;
        };
        let chain = self.chain(route, ex);
        let decision = chain.decision.get().unwrap_or_else(|| {
            let headers = ex.response.as_ref().map(|r| &r.headers);
            let mut offers: Vec<(&'static str, bool)> = vec![];
            for (config, encoding) in chain.members.borrow().iter() {
                if headers.is_none_or(|h| config.response.takes_type(h))
                    && !offers.iter().any(|o| o.0 == *encoding)
                {
                    offers.push((*encoding, config.choose_first));
                }
            }
            choose(accept, offers)
        });
        chain.decision.set(Some(decision));
        let mine = decision.encoding == library.encoding();
        match decision.how {
            How::Named if mine => stats.header_compressor_used().inc(),
            How::Named => stats.header_compressor_overshadowed().inc(),
            How::Identity => stats.header_identity().inc(),
            How::Wildcard => stats.header_wildcard().inc(),
            How::NotValid => stats.header_not_valid().inc(),
        }
        mine
    }
    fn is_etag_in_the_way(&self, headers: &HeaderMap) -> bool {
        self.0.no_etag && headers.contains(name::ETAG)
    }
    /// The name of what happened, for `x-envoy-compression-status`; `None`: nothing is said.
    fn respond(&self, st: &Seen, route: Option<&RouteConfig>, library: &Library, ex: &mut Exchange) -> bool {
        let c = &self.0;
        let end = ex.response_body.is_end();
        let Some(head) = &ex.response else { return false };
        let (h, status) = (&head.headers, u32::from(head.status));
        let enabled = route.and_then(|r| r.enabled).unwrap_or_else(|| c.response.enabled.get());
        let base = enabled
            && !is_upgrade(h)
            && !has_token(h.get(name::CACHE_CONTROL), b"no-transform")
            && !h.contains(name::CONTENT_ENCODING);
        if !c.status_header {
            let long = enabled && c.response.is_long_enough(h, &c.response_stats);
            let etag = long && base && c.response.takes_type(h) && self.is_etag_in_the_way(h);
            if etag {
                c.stats.not_compressed_etag().inc();
            }
            let compressible =
                long && base && c.response.takes_type(h) && !etag && !c.never.contains(&status);
            let may = may_be_encoded(h);
            let go = !end && long && self.is_asked_for(st, route, library, ex) && compressible && may;
            return self.finish(compressible, go, None, ex);
        }
        let long = base && c.response.is_long_enough(h, &c.response_stats);
        let (typed, etag) = (c.response.takes_type(h), self.is_etag_in_the_way(h));
        let never = c.never.contains(&status);
        let compressible = long && typed && !etag && !never;
        let mut said = None;
        let mut go = false;
        if !end && base && may_be_encoded(h) {
            if !long {
                said = Some("ContentLengthTooSmall");
            } else if !typed {
                said = Some("ContentTypeNotAllowed");
            } else if etag {
                said = Some("EtagNotAllowed");
                c.stats.not_compressed_etag().inc();
            } else if never {
                said = Some("StatusCodeNotAllowed");
            } else if self.is_asked_for(st, route, library, ex) {
                go = true;
                said = Some("Compressed");
            }
        }
        let said = said.map(|s| (library.encoding(), s));
        self.finish(compressible, go, said, ex)
    }
    /// Changes the head.
    fn finish(&self, vary: bool, go: bool, said: Option<(&str, &str)>, ex: &mut Exchange) -> bool {
        let Some(head) = &mut ex.response else { return false };
        let h = &mut head.headers;
        let length = h.get(name::CONTENT_LENGTH).map(<[u8]>::to_vec).unwrap_or_default();
        // With a status header the order of what is added is another.
        let first = self.0.status_header;
        if vary && first {
            add_vary(h);
        }
        let (counter, encoding) = match go {
            true => (self.0.response_stats.compressed(), Some(())),
            false => (self.0.response_stats.not_compressed(), None),
        };
        counter.inc();
        if encoding.is_some() {
            sanitize_etag(h, self.0.weaken_etag);
            h.remove(name::CONTENT_LENGTH);
        }
        if vary && !first && !go {
            add_vary(h);
        }
        if let Some((encoding, text)) = said {
            let mut value = format!("{encoding};{text}").into_bytes();
            if go {
                value.extend_from_slice(b";OriginalLength=");
                value.extend_from_slice(&length);
            }
            if go {
                h.append(name::CONTENT_ENCODING, encoding.as_bytes());
            }
            h.append("x-envoy-compression-status", &value);
        }
        go
    }
}

fn add_vary(h: &mut HeaderMap) {
    match h.joined(name::VARY) {
        None => h.append(name::VARY, b"Accept-Encoding"),
        Some(v) if has_token(Some(&v), b"accept-encoding") => {}
        Some(v) => {
            let v = [&*v, b", Accept-Encoding"].concat();
            h.set(name::VARY, &v);
        }
    }
}

/// A strong tag is one of the bytes, which are about to change.
fn sanitize_etag(h: &mut HeaderMap, weaken: bool) {
    let Some(tag) = h.get(name::ETAG) else { return };
    if tag.len() <= 2 || matches!(tag, [b'w' | b'W', b'/', ..]) {
        return;
    }
    if weaken {
        let weak = [b"W/", tag].concat();
        h.set(name::ETAG, &weak);
    } else {
        h.remove(name::ETAG);
    }
}

impl HttpFilter for Compressor {
    type Config = pb::Compressor;
    type RouteConfig = pb::CompressorPerRoute;
    type Route = RouteConfig;
    type Stream = Seen;

    fn new(config: pb::Compressor, cx: &BuildCx<'_>) -> BuildResult<Compressor> {
        Config::new(&config, cx).map(|c| Compressor(Arc::new(c)))
    }
    fn route(config: pb::CompressorPerRoute, _: &BuildCx<'_>) -> BuildResult<RouteConfig> {
        use pb::compressor_per_route::Override as O;
        Ok(match &config.r#override {
            None => return Err("field: \"override\", reason: is required".into()),
            Some(O::Disabled(_)) => RouteConfig { enabled: Some(false), remove_accept: None, library: None },
            Some(O::Overrides(o)) => {
                let response = o.response_direction_config.as_ref();
                RouteConfig {
                    enabled: response.map(|_| true),
                    remove_accept: response.and_then(|r| r.remove_accept_encoding_header),
                    library: o.compressor_library.as_ref().map(Library::new).transpose()?,
                }
            }
        })
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Seen, ex: &'a mut Exchange) -> Step<'a> {
        let c = &self.0;
        let accept = ex.request.headers.joined(name::ACCEPT_ENCODING);
        st.accept = accept.map(|a| String::from_utf8_lossy(&a).into_owned());
        let route = Compressor::route(st, ex);
        let route = route.as_deref();
        self.chain(route, ex);
        let library = route.and_then(|r| r.library.as_ref()).unwrap_or(&c.library);
        if route.and_then(|r| r.enabled).unwrap_or_else(|| c.response.enabled.get())
            && route.and_then(|r| r.remove_accept).unwrap_or(c.remove_accept)
        {
            ex.request.headers.remove(name::ACCEPT_ENCODING);
        }
        let h = &ex.request.headers;
        let go = c.request.as_ref().is_some_and(|d| {
            !ex.request_body.is_end()
                && d.enabled.get()
                && !is_upgrade(h)
                && d.is_long_enough(h, &c.request_stats)
                && d.takes_type(h)
                && !h.contains(name::CONTENT_ENCODING)
                && may_be_encoded(h)
        });
        let Some(encoder) = go.then(|| library.encoder().ok()).flatten() else {
            c.request_stats.not_compressed().inc();
            return Step::Next;
        };
        ex.request.headers.remove(name::CONTENT_LENGTH);
        ex.request.headers.append(name::CONTENT_ENCODING, library.encoding().as_bytes());
        c.request_stats.compressed().inc();
        let from = ex.sx.info.protocol.get();
        let body = Compressed::new(ex.request_body.take(), from, encoder, c.request_stats.clone());
        ex.request_body = Body::source(body);
        Step::Next
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Seen, ex: &'a mut Exchange) -> Step<'a> {
        let route = Compressor::route(st, ex);
        let route = route.as_deref();
        let library = route.and_then(|r| r.library.as_ref()).unwrap_or(&self.0.library);
        let vary = !self.0.status_header;
        if self.respond(st, route, library, ex)
            && let Some(head) = &mut ex.response
            && let Ok(encoder) = library.encoder()
        {
            if vary {
                head.headers.append(name::CONTENT_ENCODING, library.encoding().as_bytes());
                add_vary(&mut head.headers);
            }
            let ours = ex.replied.is_some();
            let from = (!ours).then(|| ex.sx.info.upstream.borrow().protocol).flatten();
            let body = Compressed::new(ex.response_body.take(), from, encoder, self.0.response_stats.clone());
            ex.response_body = Body::source(body);
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;
