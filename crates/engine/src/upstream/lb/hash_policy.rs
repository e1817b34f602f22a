//! What requests are kept together by: `RouteAction.hash_policy`, and the same of a policy of its own
//! (`ConsistentHashingLbConfig.hash_policy`).

use nuncio_api::envoy::config::route::v3::route_action as pb;
use nuncio_core::address::Address;
use nuncio_core::cookie;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::hash64::xxh64;
use nuncio_core::info::StreamShared;
use nuncio_core::matchers::{RegexSubstitution, query};
use nuncio_wire::{HeaderName, RequestHead};
use pb::hash_policy::PolicySpecifier as P;
use std::sync::Arc;

/// What is read of hash policies.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.route.v3.RouteAction.HashPolicy",
        &["header", "cookie", "connection_properties", "query_parameter", "filter_state", "terminal"],
    ),
    Covered::new("envoy.config.route.v3.RouteAction.HashPolicy.Header", &["header_name", "regex_rewrite"]),
    Covered::new(
        "envoy.config.route.v3.RouteAction.HashPolicy.Cookie",
        &["name", "ttl", "path", "attributes"],
    ),
    Covered::new("envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute", &["name", "value"]),
    Covered::new("envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties", &["source_ip"]),
    Covered::new("envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter", &["name"]),
    Covered::new("envoy.config.route.v3.RouteAction.HashPolicy.FilterState", &["key"]),
];

/// A compiled list of hash policies.
#[derive(Debug, Clone)]
pub struct HashPolicy(Arc<[Method]>);

#[derive(Debug)]
struct Method {
    by: By,
    terminal: bool,
}

#[derive(Debug)]
enum By {
    Header(HeaderName, Option<RegexSubstitution>),
    Cookie(Box<Cookie>),
    SourceIp,
    Query(Box<[u8]>),
    FilterState(Box<str>),
}

#[derive(Debug)]
struct Cookie {
    name: String,
    /// A request without the cookie gets one that lives so many seconds; `None`: it gets none.
    ttl: Option<i64>,
    /// What stands behind its value in `set-cookie`.
    rest: String,
}

impl HashPolicy {
    /// Compiles a list; `None` if it is empty.
    ///
    /// # Errors
    /// A bad regular expression.
    pub fn new(list: &[pb::HashPolicy]) -> BuildResult<Option<HashPolicy>> {
        if list.is_empty() {
            return Ok(None);
        }
        let mut all = vec![];
        for p in list {
            let by = match &p.policy_specifier {
                Some(P::Header(h)) => By::Header(
                    HeaderName::new(&h.header_name),
                    h.regex_rewrite.as_ref().map(RegexSubstitution::new).transpose()?,
                ),
                Some(P::Cookie(c)) => By::Cookie(Box::new(Cookie::new(c))),
                Some(P::ConnectionProperties(c)) if !c.source_ip => continue,
                Some(P::ConnectionProperties(_)) => By::SourceIp,
                Some(P::QueryParameter(q)) => By::Query(q.name.as_bytes().into()),
                Some(P::FilterState(f)) => By::FilterState(f.key.as_str().into()),
                None => return Err("HashPolicyValidationError.PolicySpecifier: value is required".into()),
            };
            all.push(Method { by, terminal: p.terminal });
        }
        Ok(Some(HashPolicy(all.into())))
    }
    /// The hash of a request, if it has anything that is asked for; and what `set-cookie` its response is to have.
    pub fn hash(&self, head: &RequestHead, sx: &StreamShared) -> (Option<u64>, Option<String>) {
        let mut set_cookie = None;
        (self.combined(|by| by.hash(head, sx, &mut set_cookie)), set_cookie)
    }
    /// The hash of a request; one that lacks a cookie gets none.
    pub fn hash_without_cookies(&self, head: &RequestHead, sx: &StreamShared) -> Option<u64> {
        self.combined(|by| {
            let mut set_cookie = None;
            by.hash(head, sx, &mut set_cookie).filter(|_| set_cookie.is_none())
        })
    }
    fn combined(&self, mut of: impl FnMut(&By) -> Option<u64>) -> Option<u64> {
        let mut hash = None;
        for m in &*self.0 {
            if let Some(new) = of(&m.by) {
                // Turned, so that two equal ones do not cancel each other out.
                hash = Some(hash.map_or(0, |old: u64| old.rotate_left(1)) ^ new);
            }
            if m.terminal && hash.is_some() {
                break;
            }
        }
        hash
    }
}

impl By {
    fn hash(&self, head: &RequestHead, sx: &StreamShared, set_cookie: &mut Option<String>) -> Option<u64> {
        match self {
            By::Header(name, rewrite) => {
                let values = head.headers.get_all(name);
                let mut values: Vec<Vec<u8>> = match rewrite {
                    None => {
                        let mut one = values;
                        let first = one.next()?;
                        let Some(second) = one.next() else { return Some(xxh64(first, 0)) };
                        [first, second].into_iter().chain(one).map(<[u8]>::to_vec).collect()
                    }
                    Some(r) => values
                        .map(|v| {
                            let mut out = vec![];
                            r.replace_all(v, &mut out);
                            out
                        })
                        .collect(),
                };
                if values.is_empty() {
                    return None;
                }
                values.sort_unstable(); // their order does not count
                Some(values.iter().fold(0, |seed, v| xxh64(v, seed)))
            }
            By::Cookie(c) => {
                if let Some(v) = cookie::get(&head.headers, c.name.as_bytes()).filter(|v| !v.is_empty()) {
                    return Some(xxh64(v, 0));
                }
                c.ttl?;
                let (remote, local) = (remote(sx), sx.conn.local.borrow());
                let value = format!("{:x}", xxh64(format!("{remote}{local}").as_bytes(), 0));
                let hash = xxh64(value.as_bytes(), 0);
                *set_cookie = Some(format!("{}=\"{value}\"{}", c.name, c.rest));
                Some(hash)
            }
            By::SourceIp => of_ip(&remote(sx)),
            By::Query(name) => {
                let mut params = query::params(query::of_path(head.path())?);
                params.find(|(n, _)| *n == &**name).map(|(_, v)| xxh64(v, 0))
            }
            By::FilterState(key) => {
                let object = sx.info.filter_state.borrow().get(key);
                let object = object.or_else(|| sx.conn.filter_state.borrow().get(key))?;
                object.hash()
            }
        }
    }
}

fn remote(sx: &StreamShared) -> Address {
    sx.info.remote.borrow().clone().unwrap_or_else(|| sx.conn.remote.borrow().clone())
}

/// The hash of an address without its port.
pub fn of_ip(a: &Address) -> Option<u64> {
    a.ip().map(|ip| xxh64(ip.to_string().as_bytes(), 0))
}

impl Cookie {
    fn new(c: &pb::hash_policy::Cookie) -> Cookie {
        let ttl = c.ttl.as_ref().map(|t| t.seconds);
        let more = c.attributes.iter().map(|a| (&*a.name, &*a.value));
        let rest = cookie::attributes(ttl.unwrap_or(0), &c.path, more);
        Cookie { name: c.name.clone(), ttl, rest }
    }
}
