//! The exchange: one request and its response. Lives on one worker, never `Send`.

use crate::body::Body;
use crate::filter_state::LifeSpan;
use crate::flags::Flag;
use crate::info::StreamShared;
use crate::route::{AnyConfig, FilterId, Route, RouteSource};
use nuncio_wire::{Chunk, HeaderMap, RequestHead, ResponseHead, name};
use std::any::Any;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

/// One request, its response, and what is shared about them.
pub struct Exchange {
    /// The request's head.
    pub request: RequestHead,
    /// The request's body, until somebody takes it.
    pub request_body: Body,
    /// The response's head, once there is one.
    pub response: Option<ResponseHead>,
    /// The response's body.
    pub response_body: Body,
    /// Trailers that were sent after it, for the logs.
    pub response_trailers: Option<Box<HeaderMap>>,
    /// Facts, connection, side futures.
    pub sx: Rc<StreamShared>,
    /// Changes what [`reply`](Self::reply) makes (`local_reply_config`).
    pub rewriter: Option<Rc<dyn ReplyRewriter>>,
    /// Whether replies of the proxy are gRPC's, for filters that change the request's `content-type`; `None`: as it is now.
    pub grpc_replies: Option<bool>,
    /// The status of the last [`reply`](Self::reply), before anybody changed it.
    pub replied: Option<u16>,
    pub(crate) current: FilterId,
}

/// Changes local replies before anybody sees them.
pub trait ReplyRewriter {
    /// Changes `reply`, which is to answer `ex`; says what `content-type` its body has now.
    fn rewrite(&self, ex: &Exchange, reply: &mut LocalReply) -> Rc<str>;
}

impl Exchange {
    /// An exchange whose request has just arrived.
    pub fn new(request: RequestHead, request_body: Body, sx: Rc<StreamShared>) -> Exchange {
        let response_body = Body::Empty;
        Exchange {
            request,
            request_body,
            response: None,
            response_body,
            response_trailers: None,
            sx,
            rewriter: None,
            grpc_replies: None,
            replied: None,
            current: FilterId::NONE,
        }
    }
    /// The route, chosen now unless it was chosen before. Edits of the head before the first call count;
    /// later ones count after [`clear_route_cache`](Self::clear_route_cache).
    pub fn route(&self) -> Option<Arc<dyn Route>> {
        let mut r = self.sx.route.borrow_mut();
        if !r.resolved {
            let source = r.source.clone();
            drop(r); // choosing may look at the stream's facts
            let route = source.and_then(|s| s.choose(&self.request, &self.sx));
            r = self.sx.route.borrow_mut();
            (r.resolved, r.route) = (true, route);
        }
        r.route.clone()
    }
    /// The request has been read to its end.
    pub fn is_complete(&self) -> bool {
        self.sx.info.times.ds_rx_end.get().is_some()
    }
    /// The same request as another exchange, in whose log this one has no part: what is known of the client's side goes
    /// over, and the filter state that outlives an internal redirect.
    pub fn again(
        request: RequestHead,
        body: Body,
        before: &StreamShared,
        routes: Rc<dyn RouteSource>,
    ) -> Exchange {
        let mut sx = StreamShared::new(before.conn.clone(), Some(routes));
        if let Some(new) = Rc::get_mut(&mut sx) {
            (new.info.start, new.info.start_wall) = (before.info.start, before.info.start_wall);
        }
        let (from, to) = (&before.info, &sx.info);
        to.protocol.set(from.protocol.get());
        to.times.ds_rx_end.set(from.times.ds_rx_end.get());
        // Envoy counts a body each time that it is read.
        to.bytes_received.set(from.bytes_received.get() + body.known_len().unwrap_or(0) as u64);
        to.remote.replace(from.remote.borrow().clone());
        let mut state = from.filter_state.take();
        state.keep_from(LifeSpan::Request);
        to.filter_state.replace(state);
        Exchange::new(request, body, sx)
    }
    /// Lets the next [`route`](Self::route) choose again.
    pub fn clear_route_cache(&self) {
        self.sx.route.borrow_mut().resolved = false;
    }
    /// The most specific per-route config of the filter that is running.
    pub fn route_config<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.route_configs().into_iter().next()
    }
    /// Its configs at all levels, most specific first (cors, ext_authz, ext_proc, header_mutation need them).
    pub fn route_configs<T: Any + Send + Sync>(&self) -> smallvec::SmallVec<[Arc<T>; 4]> {
        let Some(route) = self.route() else { return smallvec::SmallVec::new() };
        let found = |c: &AnyConfig| c.clone().downcast().ok();
        route
            .per_filter(&self.sx)
            .into_iter()
            .flatten()
            .filter_map(|l| l.get(self.current))
            .filter_map(found)
            .collect()
    }
    /// Makes `r` the response. gRPC requests are answered in gRPC's way: 200, trailers only.
    pub fn reply(&mut self, mut r: LocalReply) {
        let info = &self.sx.info;
        self.replied = Some(r.status);
        r.flags.iter().for_each(|f| info.set_flag(*f));
        info.set_details(std::mem::take(&mut r.details));
        if r.as_is {
            let headers = r.headers.unwrap_or_default();
            self.response = Some(ResponseHead { status: r.status, headers, ..Default::default() });
            self.response_body = Body::Empty;
            return;
        }
        if self.response.is_none() {
            self.add_route_headers(&mut r);
        }
        let mut content_type = ContentType { text: None, overrides: false };
        if let Some(w) = self.rewriter.clone() {
            content_type = self.rewrite(&*w, &mut r);
        }
        let text = content_type.text.as_deref().map_or(&b"text/plain"[..], str::as_bytes);
        let mut head =
            ResponseHead { status: r.status, headers: r.headers.unwrap_or_default(), ..Default::default() };
        let h = &mut head.headers;
        if self.grpc_replies.unwrap_or_else(|| self.request.is_grpc()) {
            head.status = 200;
            h.set(name::CONTENT_TYPE, b"application/grpc");
            if h.get(name::GRPC_STATUS).is_none_or(<[u8]>::is_empty) {
                let code = r.grpc_status.unwrap_or_else(|| grpc_status_of(r.status));
                h.set(name::GRPC_STATUS, code.to_string().as_bytes());
            }
            let json = text == b"application/json";
            let message = r.body.strip_suffix(b"\n").filter(|_| json).unwrap_or(&r.body);
            if !message.is_empty() && !self.request.is_head() {
                h.set(name::GRPC_MESSAGE, &percent_encode(message));
            }
            h.remove(name::CONTENT_LENGTH);
            self.response_body = Body::Empty;
        } else if r.body.is_empty() {
            h.remove(name::CONTENT_LENGTH);
            h.remove(name::CONTENT_TYPE);
            self.response_body = Body::Empty;
        } else {
            h.set(name::CONTENT_LENGTH, r.body.len().to_string().as_bytes());
            if content_type.overrides || !h.contains(name::CONTENT_TYPE) {
                h.set(name::CONTENT_TYPE, text);
            }
            self.response_body = if self.request.is_head() { Body::Empty } else { Body::full(r.body) };
        }
        self.response = Some(head);
    }

    /// What the route adds to responses, before the reply's own headers.
    fn add_route_headers(&self, r: &mut LocalReply) {
        // A request that is refused before a route was chosen has none.
        let Some(route) = self.sx.current_route().and_then(|_| self.route()) else { return };
        let mut headers = HeaderMap::default();
        route.finalize_reply(r.status, &mut headers, self);
        if headers.is_empty() {
            return;
        }
        if let Some(own) = &r.headers {
            own.iter().for_each(|h| headers.append(h.name, h.value));
        }
        r.headers = Some(headers);
    }

    /// Lets `w` change a reply. Its content type holds for a body that it changed, unless it set a header.
    fn rewrite(&self, w: &dyn ReplyRewriter, r: &mut LocalReply) -> ContentType {
        let of = |r: &LocalReply| {
            let h = r.headers.as_ref();
            h.and_then(|h| h.get(name::CONTENT_TYPE)).map(<[u8]>::to_vec).unwrap_or_default()
        };
        let (type_before, body_before) = (of(r), r.body.clone());
        let text = w.rewrite(self, r);
        ContentType { text: Some(text), overrides: body_before != r.body && type_before == of(r) }
    }
}

/// What a rewriter says about a reply's body.
struct ContentType {
    text: Option<Rc<str>>,
    /// It replaces a header that is there.
    overrides: bool,
}

/// A response made by the proxy itself (Envoy's `sendLocalReply`).
#[derive(Debug, Default, Clone, PartialEq)]
pub struct LocalReply {
    /// Status code.
    pub status: u16,
    /// Body, `text/plain` unless `headers` say otherwise.
    pub body: Chunk,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    /// Flags to set.
    pub flags: Vec<Flag>,
    /// Headers to send.
    pub headers: Option<HeaderMap>,
    /// gRPC status, when it is not to be derived from `status`.
    pub grpc_status: Option<u32>,
    /// A response like any other, of status and headers alone (Envoy's `encodeHeaders`): neither the route nor
    /// `local_reply_config` change it, nor is it put in gRPC's way.
    pub as_is: bool,
    /// No filter sees it, nor is one made for it: the proxy is overloaded. Only before the first filter.
    pub unfiltered: bool,
}

impl LocalReply {
    /// A reply with a text body.
    pub fn new(status: u16, body: impl Into<Chunk>, details: impl Into<Cow<'static, str>>) -> LocalReply {
        LocalReply { status, body: body.into(), details: details.into(), ..Default::default() }
    }
    /// Adds a response flag.
    pub fn flag(mut self, f: Flag) -> LocalReply {
        self.flags.push(f);
        self
    }
    /// Adds a header.
    pub fn header(mut self, name: impl nuncio_wire::AsName, value: &[u8]) -> LocalReply {
        self.headers.get_or_insert_default().append(name, value);
        self
    }
}

/// gRPC status for an HTTP status, as Envoy maps it (400→13, 401→16, 403→7, 404→12, 429 and 502–504→14, else 2).
pub fn grpc_status_of(http: u16) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The HTTP status that stands for a gRPC status (`google.rpc.Code`); 500 for one that does not exist.
pub fn http_status_of(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// `grpc-message` is percent-encoded (gRPC over HTTP/2, "Responses").
pub fn percent_encode(s: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len());
    for &b in s {
        if (0x20..=0x7e).contains(&b) && b != b'%' {
            out.push(b);
        } else {
            out.extend_from_slice(format!("%{b:02X}").as_bytes());
        }
    }
    out
}
