//! What the service's answer does to a request and to its response.

use nuncio_api::envoy::config::core::v3::HeaderValueOption;
use nuncio_api::envoy::config::core::v3::header_value_option::HeaderAppendAction as Action;
use nuncio_api::envoy::service::auth::v3 as auth;
use nuncio_core::{Exchange, LocalReply};
use nuncio_wire::{HeaderMap, name};

/// What is done to the response, in the order in which Envoy does it.
#[derive(Default)]
pub struct Pending {
    add: Vec<(String, String)>,
    set: Vec<(String, String)>,
    add_if_absent: Vec<(String, String)>,
    overwrite: Vec<(String, String)>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.add.is_empty()
            && self.set.is_empty()
            && self.add_if_absent.is_empty()
            && self.overwrite.is_empty()
    }
    /// Does it.
    pub fn apply(&self, h: &mut HeaderMap) {
        for (k, v) in &self.add {
            h.append(k.as_str(), v.as_bytes());
        }
        for (k, v) in &self.set {
            replace(h, k, v);
        }
        for (k, v) in &self.add_if_absent {
            if !h.contains(k.as_str()) {
                h.append(k.as_str(), v.as_bytes());
            }
        }
        for (k, v) in &self.overwrite {
            if h.contains(k.as_str()) {
                replace(h, k, v);
            }
        }
    }
}

/// Sets a header, which moves to the end, as in Envoy.
fn replace(h: &mut HeaderMap, k: &str, v: &str) {
    h.remove(k);
    h.append(k, v.as_bytes());
}

/// Whether the request is another one afterwards.
pub fn changes_request(ok: &auth::OkHttpResponse) -> bool {
    !(ok.headers.is_empty()
        && ok.headers_to_remove.is_empty()
        && ok.query_parameters_to_set.is_empty()
        && ok.query_parameters_to_remove.is_empty())
}

fn pair(o: &HeaderValueOption) -> Option<(String, String)> {
    o.header.as_ref().map(|h| (h.key.to_ascii_lowercase(), h.value.clone()))
}

/// Changes the request, which also gets `more` headers; says what is to be done to the response.
pub fn apply(ok: auth::OkHttpResponse, more: &[(String, String)], ex: &mut Exchange) -> Option<Box<Pending>> {
    let h = &mut ex.request.headers;
    let (appended, set): (Vec<_>, Vec<_>) = ok.headers.iter().partition(|o| o.append == Some(true));
    for (k, v) in set.into_iter().filter_map(pair) {
        replace(h, &k, &v);
    }
    for (k, v) in more {
        h.append(k.as_str(), v.as_bytes());
    }
    for (k, v) in appended.into_iter().filter_map(pair) {
        // What is not there is not begun.
        if h.contains(k.as_str()) {
            h.append_to(k.as_str(), b",", v.as_bytes());
        }
    }
    for k in &ok.headers_to_remove {
        if !k.starts_with(':') && !k.eq_ignore_ascii_case("host") {
            h.remove(k.to_ascii_lowercase().as_str());
        }
    }
    change_query(&ok, h);
    let mut p = Pending::default();
    for o in &ok.response_headers_to_add {
        let Some(pair) = pair(o) else { continue };
        match (o.append, o.append_action()) {
            (Some(true), _) | (None, Action::AppendIfExistsOrAdd) => p.add.push(pair),
            (Some(false), _) | (None, Action::OverwriteIfExistsOrAdd) => p.set.push(pair),
            (None, Action::AddIfAbsent) => p.add_if_absent.push(pair),
            (None, Action::OverwriteIfExists) => p.overwrite.push(pair),
        }
    }
    (!p.is_empty()).then(|| Box::new(p))
}

/// Sets and removes parameters of the query; the others keep their order.
fn change_query(ok: &auth::OkHttpResponse, h: &mut HeaderMap) {
    if ok.query_parameters_to_set.is_empty() && ok.query_parameters_to_remove.is_empty() {
        return;
    }
    let path = String::from_utf8_lossy(h.get(name::PATH).unwrap_or_default()).into_owned();
    let (bare, query) = path.split_once('?').unwrap_or((&path, ""));
    let split = |p: &str| {
        let (k, v) = p.split_once('=').unwrap_or((p, ""));
        (k.to_owned(), v.to_owned())
    };
    let mut all: Vec<(String, String)> = query.split('&').filter(|p| !p.is_empty()).map(split).collect();
    for q in &ok.query_parameters_to_set {
        let at = all.iter().position(|(k, _)| *k == q.key);
        all.retain(|(k, _)| *k != q.key);
        let at = at.unwrap_or(all.len()).min(all.len());
        all.insert(at, (q.key.clone(), q.value.clone()));
    }
    all.retain(|(k, _)| !ok.query_parameters_to_remove.contains(k));
    // Envoy keeps them sorted by name.
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let query: Vec<String> = all.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let path = if query.is_empty() { bare.to_owned() } else { format!("{bare}?{}", query.join("&")) };
    h.set(name::PATH, path.as_bytes());
}

/// The reply to who may not pass; with `or_status` when it names none.
pub fn denied(d: auth::DeniedHttpResponse, max_body: usize, or_status: u16) -> LocalReply {
    let status = d.status.as_ref().and_then(|s| u16::try_from(s.code).ok()).filter(|s| *s > 0);
    let mut body = d.body.into_bytes();
    if max_body > 0 {
        body.truncate(max_body);
    }
    let mut r = LocalReply::new(status.unwrap_or(or_status), body, "ext_authz_denied");
    for (k, v) in d.headers.iter().filter(|o| o.append != Some(true)).filter_map(pair) {
        r = r.header(k.as_str(), v.as_bytes());
    }
    r
}
