//! `/stats` and its relatives; the store writes itself.

use super::response::{Chunks, HTML, TEXT};
use super::{AdminCx, Params, Request, Response};
use crate::regex::Search;
use nuncio_core::stats::{NameMatcher, Query, Render};
use std::sync::Arc;

/// `/stats`
pub fn stats(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    let params = request.params();
    if matches!(params.get("format"), Some("html" | "active-html")) {
        return html(cx, params);
    }
    render(cx, request, false)
}

/// `/stats/prometheus`
pub fn prometheus(cx: &AdminCx<'_>, request: &Request<'_>) -> Response {
    render(cx, request, true)
}

fn compile(expression: &str) -> Result<NameMatcher, String> {
    let found = Search::new(expression)?;
    Ok(Arc::new(move |name: &str| found.found_in(name)))
}

fn render(cx: &AdminCx<'_>, request: &Request<'_>, prometheus: bool) -> Response {
    cx.server.refresh_stats();
    match Query::parse(request.query(), prometheus, compile) {
        Err(e) => Response::text(400, e),
        Ok(q) => {
            let prometheus = prometheus || request.params().get("format") == Some("prometheus");
            let r = Render::new(&cx.server.store, q, Vec::new());
            let content_type = r.content_type();
            match prometheus {
                true => Response::chunks(content_type, Begun::new(r)),
                false => Response::chunks(content_type, Stats(r)),
            }
        }
    }
}

/// What is made before the answer begins, in bytes, and thus does not count that answer.
const AHEAD: usize = 64 << 10;

/// Envoy makes Prometheus text before it begins to answer, and other formats afterwards.
struct Begun {
    text: String,
    /// `None`: the text is all.
    rest: Option<Render>,
}

impl Begun {
    fn new(mut r: Render) -> Begun {
        let mut text = String::new();
        while text.len() < AHEAD {
            if !r.next_chunk(&mut text) {
                return Begun { text, rest: None };
            }
        }
        Begun { text, rest: Some(r) }
    }
}

impl Chunks for Begun {
    fn next(&mut self, out: &mut String) -> bool {
        if !self.text.is_empty() {
            out.push_str(&std::mem::take(&mut self.text));
            return self.rest.is_some();
        }
        self.rest.as_mut().is_some_and(|r| r.next_chunk(out))
    }
}

struct Stats(Render);

impl Chunks for Stats {
    fn next(&mut self, out: &mut String) -> bool {
        self.0.next_chunk(out)
    }
}

/// `?format=html`: the text in a page with a form for its parameters.
fn html(cx: &AdminCx<'_>, params: Params) -> Response {
    cx.server.refresh_stats();
    let kept =
        params.0.iter().filter(|(k, v)| k != "format" && !v.is_empty() | matches!(k.as_str(), "usedonly"));
    let query: Vec<String> = kept.map(|(k, v)| format!("{k}={}", encode(v))).collect();
    match Query::parse(&query.join("&"), false, compile) {
        Err(e) => Response::text(400, e),
        Ok(q) => {
            let refresh = params.get("format") == Some("active-html");
            Response::chunks(
                HTML,
                Page { stats: Render::new(&cx.server.store, q, Vec::new()), begun: false, refresh },
            )
        }
    }
}

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

struct Page {
    stats: Render,
    begun: bool,
    /// Load the page again every five seconds, as often as stats are flushed.
    refresh: bool,
}

impl Chunks for Page {
    fn next(&mut self, out: &mut String) -> bool {
        if !self.begun {
            self.begun = true;
            let refresh = if self.refresh { "<meta http-equiv=\"refresh\" content=\"5\">\n" } else { "" };
            out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
            out.push_str(refresh);
            out.push_str(
                "<title>Envoy Admin</title>\n</head>\n<body>\n<form action=\"stats\">\n\
                 <label>filter <input name=\"filter\"></label>\n\
                 <label>usedonly <input type=\"checkbox\" name=\"usedonly\"></label>\n\
                 <input type=\"hidden\" name=\"format\" value=\"html\">\n<button>show</button>\n</form>\n<pre>\n",
            );
        }
        let mut text = String::new();
        let more = self.stats.next_chunk(&mut text);
        out.push_str(&text.replace('&', "&amp;").replace('<', "&lt;"));
        if !more {
            out.push_str("</pre>\n</body>\n</html>\n");
        }
        more
    }
}

/// `/reset_counters`
pub fn reset_counters(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    cx.server.store.reset_counters();
    Response::ok()
}

/// `/stats/recentlookups`: our stats are not looked up by name, so there is nothing to track.
pub fn recent_lookups(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let body = "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n";
    Response { content_type: TEXT, ..Response::text(200, body) }
}

/// `/stats/recentlookups/enable` and its siblings.
pub fn lookups_ok(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    Response::ok()
}
