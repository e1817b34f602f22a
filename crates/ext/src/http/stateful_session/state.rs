//! Where a session keeps the address of its host (`envoy.http.stateful_session`).

use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::extensions::http::stateful_session as pb;
use nuncio_api::envoy::r#type::http::v3::Cookie as PbCookie;
use nuncio_core::{BuildError, BuildResult, base64, clock, cookie};
use nuncio_wire::{HeaderMap, HeaderName, RequestHead, name};
use pb::cookie::v3::CookieBasedSessionState;
use pb::envelope::v3::EnvelopeSessionState;
use pb::header::v3::HeaderBasedSessionState;
use prost::{Message, Name};
use std::time::UNIX_EPOCH;

/// A place for the address.
pub enum SessionState {
    /// A cookie.
    Cookie(Box<Cookie>),
    /// A header of its own.
    Header(HeaderName),
    /// A header of the upstream's, around its value.
    Envelope(HeaderName),
}

/// `CookieBasedSessionState`
pub struct Cookie {
    name: String,
    /// Only requests below it count; empty: all.
    path: String,
    /// In seconds; 0: it does not expire.
    ttl: u64,
    /// What stands behind its value in `set-cookie`.
    rest: String,
}

/// What is in a cookie (Envoy's `envoy.Cookie`).
#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(string, tag = "1")]
    address: String,
    /// In seconds; 0: never.
    #[prost(uint64, tag = "2")]
    expires: u64,
}

/// Before the upstream's value in an envelope.
const UPSTREAM_VALUE: &[u8] = b"UV:";

impl SessionState {
    /// From `session_state`; its name decides, as in Envoy.
    ///
    /// # Errors
    /// There is no such state, or its configuration is of another kind.
    pub fn new(c: &TypedExtensionConfig) -> BuildResult<SessionState> {
        match c.name.as_str() {
            "envoy.http.stateful_session.cookie" => {
                let c: CookieBasedSessionState = unpack(c)?;
                Ok(SessionState::Cookie(Box::new(Cookie::new(c.cookie.unwrap_or_default()))))
            }
            "envoy.http.stateful_session.header" => {
                let c: HeaderBasedSessionState = unpack(c)?;
                Ok(SessionState::Header(HeaderName::new(&c.name)))
            }
            "envoy.http.stateful_session.envelope" => {
                let c: EnvelopeSessionState = unpack(c)?;
                Ok(SessionState::Envelope(HeaderName::new(&c.header.unwrap_or_default().name)))
            }
            other => Err(BuildError(format!("Didn't find a registered implementation for name: '{other}'"))),
        }
    }
    /// True for requests that can belong to a session.
    pub fn takes(&self, head: &RequestHead) -> bool {
        match self {
            SessionState::Cookie(c) => c.is_below(head.path()),
            SessionState::Header(_) | SessionState::Envelope(_) => true,
        }
    }
    /// The address that a request asks for. From an envelope the upstream's value is taken out, for the upstream.
    pub fn read(&self, headers: &mut HeaderMap) -> Option<String> {
        match self {
            SessionState::Cookie(c) => c.read(cookie::get(headers, c.name.as_bytes())?),
            SessionState::Header(name) => text(decode(headers.get(name)?)),
            SessionState::Envelope(name) => {
                let mut parts = headers.get(name)?.split(|b| *b == b';').filter(|p| !p.is_empty());
                let address = decode(parts.next()?);
                let value = decode(parts.find_map(|p| p.strip_prefix(UPSTREAM_VALUE))?);
                if value.is_empty() {
                    return None;
                }
                replace(headers, name, &value);
                text(address)
            }
        }
    }
    /// Notes in a response which host has answered a request that asked for another one, or for none. Says whether it
    /// was another one (of envelopes: whether there was anything to note).
    pub fn write(&self, asked: Option<&str>, address: &str, headers: &mut HeaderMap) -> bool {
        let changed = asked != Some(address);
        match self {
            SessionState::Cookie(c) if changed => {
                headers.append(name::SET_COOKIE, c.set_cookie(address).as_bytes());
            }
            SessionState::Header(name) if changed => {
                replace(headers, name, base64::encode(address.as_bytes()).as_bytes());
            }
            SessionState::Cookie(_) | SessionState::Header(_) => {}
            SessionState::Envelope(name) => {
                let Some(value) = only(headers, name).map(base64::encode) else { return false };
                let address = base64::encode(address.as_bytes());
                replace(headers, name, format!("{address};UV:{value}").as_bytes());
            }
        }
        changed
    }
}

impl Cookie {
    fn new(c: PbCookie) -> Cookie {
        let ttl = c.ttl.as_ref().map_or(0, |t| t.seconds.max(0));
        let more = c.attributes.iter().map(|a| (&*a.name, &*a.value));
        let rest = cookie::attributes(ttl, &c.path, more);
        let path = if c.path == "/" { String::new() } else { c.path };
        Cookie { name: c.name, path, ttl: ttl.unsigned_abs(), rest }
    }
    /// RFC 6265 §5.1.4, but that a path which ends in a slash does not match itself without it.
    fn is_below(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(self.path.as_bytes()) else { return false };
        self.path.is_empty()
            || self.path.ends_with('/')
            || matches!(rest.first(), None | Some(b'/' | b'?' | b'#'))
    }
    fn read(&self, value: &[u8]) -> Option<String> {
        let bytes = decode(value);
        match Payload::decode(&*bytes) {
            Ok(p) if p.address.is_empty() || (p.expires != 0 && now() > p.expires) => None,
            Ok(p) => Some(p.address),
            // So it was once: the address as it is.
            Err(_) => text(bytes),
        }
    }
    fn set_cookie(&self, address: &str) -> String {
        let expires = if self.ttl == 0 { 0 } else { now().saturating_add(self.ttl) };
        let payload = Payload { address: address.to_owned(), expires };
        format!("{}=\"{}\"{}", self.name, base64::encode(&payload.encode_to_vec()), self.rest)
    }
}

/// Seconds of the wall clock.
fn now() -> u64 {
    clock::wall().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    (headers.get_all(name).count() == 1).then(|| headers.get(name))?
}

/// Base64 with all its padding; what is none is nothing.
fn decode(text: &[u8]) -> Vec<u8> {
    Some(text).filter(|t| t.len().is_multiple_of(4)).and_then(base64::decode).unwrap_or_default()
}

/// An address; one that is no text names no host.
fn text(bytes: Vec<u8>) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|t| !t.is_empty())
}

/// The one header of this name, behind the others, as Envoy does it.
fn replace(headers: &mut HeaderMap, name: &HeaderName, value: &[u8]) {
    headers.remove(name);
    headers.append(name, value);
}

fn unpack<M: Message + Name + Default>(c: &TypedExtensionConfig) -> BuildResult<M> {
    let any = c.typed_config.clone().unwrap_or_default();
    if any.type_url.rsplit('/').next() != Some(&*M::full_name()) {
        return Err(BuildError(format!("Unable to unpack as {}: [{}]", M::full_name(), any.type_url)));
    }
    M::decode(&*any.value).map_err(|e| BuildError(e.to_string()))
}
