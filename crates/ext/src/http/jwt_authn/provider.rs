//! A provider: where its tokens stand in a request, what they must claim, who signs them, and what is passed on of them.

use super::JwtStats;
use super::jwks::Jwks;
use super::remote::Remote;
use super::status::Status;
use super::token::Token;
use crate::config::millis;
use nuncio_api::envoy::extensions::filters::http::jwt_authn::v3 as pb;
use nuncio_core::base64;
use nuncio_core::filter::BuildCx;
use nuncio_core::matchers::{StringMatcher, query};
use nuncio_core::{BuildResult, Exchange, clock, cookie, data_source};
use nuncio_wire::{HeaderName, RequestHead, name};
use pb::jwt_provider::JwksSourceSpecifier;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A compiled `JwtProvider`.
pub struct Provider {
    /// `issuer`; empty: any.
    pub issuer: String,
    audiences: Vec<String>,
    subjects: Option<StringMatcher>,
    require_expiration: bool,
    max_lifetime: Option<Duration>,
    skew: u64,
    keys: Keys,
    forward: bool,
    payload_header: Option<HeaderName>,
    pad_payload: bool,
    claims: Vec<(String, HeaderName)>,
    payload_in_metadata: String,
    header_in_metadata: String,
    space_delimited: Vec<String>,
    clear_route_cache: bool,
    /// Where its tokens stand.
    pub locations: Vec<Location>,
}

/// Where a token may stand.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A header, after a prefix.
    Header(String, String),
    /// A parameter of the query.
    Parameter(String),
    /// A cookie.
    Cookie(String),
}

enum Keys {
    None,
    Local(Result<Jwks, Status>),
    Remote(Remote),
}

impl Provider {
    /// From configuration.
    ///
    /// # Errors
    /// A key file or a matcher is refused.
    pub fn new(name: &str, p: &pb::JwtProvider, stats: &JwtStats, cx: &BuildCx<'_>) -> BuildResult<Provider> {
        let keys = match &p.jwks_source_specifier {
            None => Keys::None,
            Some(JwksSourceSpecifier::LocalJwks(d)) => Keys::Local(Jwks::read(&data_source::read(d)?)),
            Some(JwksSourceSpecifier::RemoteJwks(r)) => Keys::Remote(Remote::new(name, r, stats, cx)?),
        };
        let mut locations: Vec<Location> = vec![];
        locations.extend(
            p.from_headers
                .iter()
                .map(|h| Location::Header(h.name.to_ascii_lowercase(), h.value_prefix.clone())),
        );
        locations.extend(p.from_params.iter().cloned().map(Location::Parameter));
        locations.extend(p.from_cookies.iter().cloned().map(Location::Cookie));
        if locations.is_empty() {
            locations.push(Location::Header("authorization".into(), "Bearer ".into()));
            locations.push(Location::Parameter("access_token".into()));
        }
        let header = |h: &str| (!h.is_empty()).then(|| HeaderName::new(h));
        Ok(Provider {
            issuer: p.issuer.clone(),
            audiences: p.audiences.iter().map(|a| bare(a).to_owned()).collect(),
            subjects: p.subjects.as_ref().map(StringMatcher::new).transpose()?,
            require_expiration: p.require_expiration,
            max_lifetime: millis(p.max_lifetime.as_ref()),
            skew: if p.clock_skew_seconds == 0 { 60 } else { p.clock_skew_seconds.into() },
            keys,
            forward: p.forward,
            payload_header: header(&p.forward_payload_header),
            pad_payload: p.pad_forward_payload_header,
            claims: p
                .claim_to_headers
                .iter()
                .map(|c| (c.claim_name.clone(), HeaderName::new(&c.header_name)))
                .collect(),
            payload_in_metadata: p.payload_in_metadata.clone(),
            header_in_metadata: p.header_in_metadata.clone(),
            space_delimited: p
                .normalize_payload_in_metadata
                .as_ref()
                .map(|n| n.space_delimited_claims.clone())
                .unwrap_or_default(),
            clear_route_cache: p.clear_route_cache,
            locations,
        })
    }
    /// Takes headers from a request that only we may set.
    pub fn sanitize(&self, head: &mut RequestHead) {
        for h in self.payload_header.iter().chain(self.claims.iter().map(|(_, h)| h)) {
            head.headers.remove(h);
        }
    }
    /// Whether a token's claims are as they must be; `audiences`: those of the requirement.
    ///
    /// # Errors
    /// Which are not.
    pub fn check_claims(&self, t: &Token, audiences: Option<&[String]>) -> Result<(), Status> {
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        t.holds(now, self.skew)?;
        let allowed = audiences.unwrap_or(&self.audiences);
        if !allowed.is_empty() && !t.audiences.iter().any(|a| allowed.iter().any(|b| b == bare(a))) {
            return Err(Status::AudienceNotAllowed);
        }
        if self.subjects.as_ref().is_some_and(|m| !m.matches(t.subject.as_bytes())) {
            return Err(Status::VerificationFail);
        }
        if !self.lives_as_it_may(t) {
            return Err(Status::VerificationFail);
        }
        Ok(())
    }
    fn lives_as_it_may(&self, t: &Token) -> bool {
        if self.max_lifetime.is_none() && !self.require_expiration {
            return true;
        }
        let Some(expires) = UNIX_EPOCH.checked_add(Duration::from_secs(t.expires)) else { return false };
        let left = |now: SystemTime| expires.duration_since(now).unwrap_or_default();
        t.expires != 0 && self.max_lifetime.is_none_or(|most| left(clock::wall()) <= most)
    }
    /// Whether a token's signature is good; keys are fetched if need be.
    ///
    /// # Errors
    /// It is not, or there are no keys.
    pub async fn check_signature(&self, t: &Token, stats: &JwtStats) -> Result<(), Status> {
        match &self.keys {
            Keys::None => Err(Status::JwksNoValidKeys),
            Keys::Local(Ok(keys)) => keys.verify(t),
            Keys::Local(Err(_)) => Err(Status::JwksNoValidKeys),
            Keys::Remote(r) => r.keys(stats).await?.verify(t),
        }
    }
    /// Passes on what is to be passed on of a good token. `extracted` becomes metadata.
    pub fn accept(&self, t: &Token, from: &Location, ex: &mut Exchange, extracted: &mut Struct) -> bool {
        let h = &mut ex.request.headers;
        if let Some(name) = &self.payload_header {
            let mut text = t.payload_text.clone();
            if self.pad_payload {
                while !text.len().is_multiple_of(4) {
                    text.push('=');
                }
            }
            h.append(name, text.as_bytes());
        }
        let mut added = false;
        for (claim, name) in &self.claims {
            let text = t.claim(claim).map(text_of).unwrap_or_default();
            if !text.is_empty() {
                h.append(name, text.as_bytes());
                added = true;
            }
        }
        if !self.forward {
            from.remove(&mut ex.request);
        }
        if !self.header_in_metadata.is_empty() {
            extracted.fields.insert(self.header_in_metadata.clone(), as_struct(&t.header));
        }
        if !self.payload_in_metadata.is_empty() {
            let mut payload = as_struct(&t.payload);
            self.split_claims(&mut payload);
            extracted.fields.insert(self.payload_in_metadata.clone(), payload);
        }
        self.clear_route_cache && (added || !self.payload_in_metadata.is_empty())
    }
    fn split_claims(&self, payload: &mut Value) {
        let Some(Kind::StructValue(s)) = &mut payload.kind else { return };
        for claim in &self.space_delimited {
            if let Some(v) = s.fields.get_mut(claim)
                && let Some(Kind::StringValue(text)) = &v.kind
            {
                let one = |w: &str| Value { kind: Some(Kind::StringValue(w.to_owned())) };
                let values = text.split(' ').filter(|w| !w.is_empty()).map(one).collect();
                v.kind = Some(Kind::ListValue(ListValue { values }));
            }
        }
    }
}

/// An audience without its scheme and a slash at its end.
fn bare(audience: &str) -> &str {
    let a =
        audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")).unwrap_or(audience);
    a.strip_suffix('/').unwrap_or(a)
}

/// A claim as the text of a header; objects and lists as base64 of their JSON.
fn text_of(v: &serde_json::Value) -> String {
    use serde_json::Value as J;
    match v {
        J::String(s) => s.clone(),
        J::Bool(b) => b.to_string(),
        J::Number(n) => match n.as_f64() {
            Some(f) if f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0 => (f as i64).to_string(),
            Some(f) => format!("{f:.6}"),
            None => n.to_string(),
        },
        J::Object(_) | J::Array(_) => base64::encode(v.to_string().as_bytes()),
        J::Null => String::new(),
    }
}

fn as_struct(m: &serde_json::Map<String, serde_json::Value>) -> Value {
    let fields: BTreeMap<String, Value> = m.iter().map(|(k, v)| (k.clone(), as_value(v))).collect();
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

fn as_value(v: &serde_json::Value) -> Value {
    use serde_json::Value as J;
    let kind = match v {
        J::Null => Kind::NullValue(0),
        J::Bool(b) => Kind::BoolValue(*b),
        J::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(0.0)),
        J::String(s) => Kind::StringValue(s.clone()),
        J::Array(a) => Kind::ListValue(ListValue { values: a.iter().map(as_value).collect() }),
        J::Object(m) => return as_struct(m),
    };
    Value { kind: Some(kind) }
}

impl Location {
    /// The tokens that stand here.
    pub fn tokens(&self, head: &RequestHead, out: &mut Vec<String>) {
        match self {
            Location::Header(name, prefix) => {
                for v in head.headers.get_all(&HeaderName::new(name)) {
                    let v = String::from_utf8_lossy(v);
                    if prefix.is_empty() {
                        out.push(v.into_owned());
                    } else if let Some(at) = v.find(prefix.as_str()) {
                        out.push(cut(&v[at + prefix.len()..]).to_owned());
                    }
                }
            }
            Location::Parameter(name) => {
                let mut all = query::params(query::of_path(head.path()).unwrap_or_default());
                let is_it = |n: &[u8]| query::decode(n).eq(name.bytes());
                if let Some((_, v)) = all.find(|(n, _)| is_it(n)) {
                    let v: Vec<u8> = query::decode(v).collect();
                    out.push(String::from_utf8_lossy(&v).into_owned());
                }
            }
            Location::Cookie(name) => {
                if let Some(v) = cookie::get(&head.headers, name.as_bytes()) {
                    out.push(String::from_utf8_lossy(v).into_owned());
                }
            }
        }
    }
    /// Takes the token out of the request; cookies stay, as in Envoy.
    fn remove(&self, head: &mut RequestHead) {
        match self {
            Location::Header(name, _) => drop(head.headers.remove(&HeaderName::new(name))),
            Location::Parameter(name) => {
                let path = head.path().to_vec();
                let (bare, query) = match path.iter().position(|b| *b == b'?') {
                    Some(i) => (&path[..i], &path[i + 1..]),
                    None => return,
                };
                let kept: Vec<&[u8]> = query
                    .split(|b| *b == b'&')
                    .filter(|p| p.split(|b| *b == b'=').next() != Some(name.as_bytes()))
                    .collect();
                let mut path = bare.to_vec();
                if !kept.is_empty() {
                    path.push(b'?');
                    path.extend_from_slice(&kept.join(&b'&'));
                }
                head.headers.set(name::PATH, &path);
            }
            Location::Cookie(_) => {}
        }
    }
}

/// The first run of characters that a token consists of.
fn cut(v: &str) -> &str {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let Some(start) = v.find(fits) else { return "" };
    let v = &v[start..];
    &v[..v.find(|c| !fits(c)).unwrap_or(v.len())]
}
