//! Header names: a table of the well-known ones, and names that come from configuration.
//!
//! A known name is compared by a 16-bit number and its text is static; any other name is compared as bytes.
//! All names are lower case (RFC 9113 §8.2.1; Envoy lower-cases HTTP/1 names as well).

use std::fmt;
use std::sync::Arc;

/// Number of a well-known header name; [`Id::OTHER`] is every name that is not in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Id(pub(crate) u16);

impl Id {
    /// Not a well-known name: the text decides.
    pub const OTHER: Id = Id(0);

    /// The name's text; empty for [`Id::OTHER`].
    pub const fn text(self) -> &'static str {
        KNOWN[self.0 as usize]
    }
    /// The name's text and what follows it in a line.
    #[inline]
    pub(crate) fn before_value(self) -> &'static [u8] {
        match self {
            AUTHORITY => b"host: ",
            known => BEFORE_VALUE[known.0 as usize].as_bytes(),
        }
    }
    /// True for `:method` and its like, which stand before all other headers.
    pub const fn is_pseudo(self) -> bool {
        self.0 != 0 && self.0 <= LAST_PSEUDO.0
    }
    /// Looks a lower-case name up.
    pub fn of(name: &[u8]) -> Id {
        Id::lookup(name, |known| known == name)
    }
    /// Looks a name in any case up; it must be a token (RFC 9110 §5.6.2).
    #[inline]
    pub fn of_any_case(name: &[u8]) -> Id {
        // All characters of a name of up to 16 are in its key.
        Id::lookup(name, |known| name.len() <= 16 || is_lowered(known, name))
    }
    #[inline]
    fn lookup(name: &[u8], is: impl Fn(&[u8]) -> bool) -> Id {
        let key = key(name);
        let mut slot = hash(key, name.len());
        loop {
            let id = INDEX[slot];
            if id == 0 {
                return Id::OTHER;
            }
            let known = KNOWN[id as usize].as_bytes();
            if KEYS[id as usize] == key && known.len() == name.len() && is(known) {
                return Id(id);
            }
            slot = (slot + 1) % INDEX_LEN;
        }
    }
}

/// A set of well-known names, to be looked through once instead of name by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdSet([u64; 4]);

impl IdSet {
    /// The set of `ids`; [`Id::OTHER`] cannot be a member.
    pub const fn new(ids: &[Id]) -> IdSet {
        let (mut bits, mut i) = ([0; 4], 0);
        while i < ids.len() {
            let n = ids[i].0 as usize;
            assert!(n != 0 && n < 256);
            bits[n / 64] |= 1 << (n % 64);
            i += 1;
        }
        IdSet(bits)
    }
    /// The set with one more name.
    pub const fn with(mut self, id: Id) -> IdSet {
        self.insert(id);
        self
    }
    /// The set with all names of another one.
    pub const fn with_all(mut self, other: &IdSet) -> IdSet {
        let mut i = 0;
        while i < 4 {
            self.0[i] |= other.0[i];
            i += 1;
        }
        self
    }
    /// The set without a name.
    pub const fn without(mut self, id: Id) -> IdSet {
        self.subtract(&IdSet::new(&[id]));
        self
    }
    /// True for a member.
    #[inline]
    pub const fn has(&self, id: Id) -> bool {
        let n = id.0 as usize;
        self.0[n / 64 % 4] >> (n % 64) & 1 == 1
    }
    /// Adds a name, [`Id::OTHER`] as well: then some unknown name is meant.
    #[inline]
    pub(crate) const fn insert(&mut self, id: Id) {
        self.0[id.0 as usize / 64 % 4] |= 1 << (id.0 % 64);
    }
    /// Takes all names of `other` out.
    #[inline]
    pub(crate) const fn subtract(&mut self, other: &IdSet) {
        let mut i = 0;
        while i < 4 {
            self.0[i] &= !other.0[i];
            i += 1;
        }
    }
    /// True when the two have a member in common.
    #[inline]
    pub(crate) const fn meets(&self, other: &IdSet) -> bool {
        let (a, b) = (&self.0, &other.0);
        (a[0] & b[0]) | (a[1] & b[1]) | (a[2] & b[2]) | (a[3] & b[3]) != 0
    }
}
const _: () = assert!(COUNT <= 256, "an IdSet has 256 bits");

macro_rules! known {
    ($($konst:ident = $text:literal),* $(,)?) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u16)]
        enum Numbers { _OTHER, $($konst),* }
        $(#[doc = concat!("`", $text, "`")] pub const $konst: Id = Id(Numbers::$konst as u16);)*
        const KNOWN: &[&str] = &["", $($text),*];
        /// As [`KNOWN`], with what follows a name in a line.
        static BEFORE_VALUE: [&str; COUNT] = [": ", $(concat!($text, ": ")),*];
    };
}

known! {
    METHOD = ":method", PATH = ":path", AUTHORITY = ":authority", SCHEME = ":scheme", PROTOCOL = ":protocol", STATUS = ":status",
    HOST = "host", CONNECTION = "connection", CONTENT_LENGTH = "content-length", CONTENT_TYPE = "content-type",
    TRANSFER_ENCODING = "transfer-encoding", KEEP_ALIVE = "keep-alive", PROXY_CONNECTION = "proxy-connection",
    UPGRADE = "upgrade", TE = "te", TRAILER = "trailer", EXPECT = "expect", HTTP2_SETTINGS = "http2-settings",
    ACCEPT = "accept", ACCEPT_ENCODING = "accept-encoding", ACCEPT_LANGUAGE = "accept-language", ACCEPT_RANGES = "accept-ranges",
    ACCESS_CONTROL_ALLOW_ORIGIN = "access-control-allow-origin", ACCESS_CONTROL_ALLOW_CREDENTIALS = "access-control-allow-credentials",
    ACCESS_CONTROL_ALLOW_HEADERS = "access-control-allow-headers", ACCESS_CONTROL_ALLOW_METHODS = "access-control-allow-methods",
    ACCESS_CONTROL_EXPOSE_HEADERS = "access-control-expose-headers", ACCESS_CONTROL_MAX_AGE = "access-control-max-age",
    ACCESS_CONTROL_REQUEST_HEADERS = "access-control-request-headers", ACCESS_CONTROL_REQUEST_METHOD = "access-control-request-method",
    AGE = "age", ALLOW = "allow", ALT_SVC = "alt-svc", AUTHORIZATION = "authorization", CACHE_CONTROL = "cache-control",
    CONTENT_DISPOSITION = "content-disposition", CONTENT_ENCODING = "content-encoding", CONTENT_LANGUAGE = "content-language",
    CONTENT_LOCATION = "content-location", CONTENT_RANGE = "content-range", COOKIE = "cookie", DATE = "date", ETAG = "etag",
    EXPIRES = "expires", FROM = "from", IF_MATCH = "if-match", IF_MODIFIED_SINCE = "if-modified-since", IF_NONE_MATCH = "if-none-match",
    IF_RANGE = "if-range", IF_UNMODIFIED_SINCE = "if-unmodified-since", LAST_MODIFIED = "last-modified", LINK = "link",
    LOCATION = "location", MAX_FORWARDS = "max-forwards", ORIGIN = "origin", PRAGMA = "pragma", PRIORITY = "priority",
    PROXY_AUTHENTICATE = "proxy-authenticate", PROXY_AUTHORIZATION = "proxy-authorization", PROXY_STATUS = "proxy-status",
    RANGE = "range", REFERER = "referer", RETRY_AFTER = "retry-after", SEC_FETCH_DEST = "sec-fetch-dest", SEC_FETCH_MODE = "sec-fetch-mode",
    SEC_FETCH_SITE = "sec-fetch-site", SEC_FETCH_USER = "sec-fetch-user", SEC_CH_UA = "sec-ch-ua", SEC_CH_UA_MOBILE = "sec-ch-ua-mobile",
    SEC_CH_UA_PLATFORM = "sec-ch-ua-platform", SEC_WEBSOCKET_KEY = "sec-websocket-key", SEC_WEBSOCKET_ACCEPT = "sec-websocket-accept",
    SEC_WEBSOCKET_VERSION = "sec-websocket-version", SEC_WEBSOCKET_PROTOCOL = "sec-websocket-protocol",
    SEC_WEBSOCKET_EXTENSIONS = "sec-websocket-extensions", SERVER = "server", SET_COOKIE = "set-cookie",
    STRICT_TRANSPORT_SECURITY = "strict-transport-security", UPGRADE_INSECURE_REQUESTS = "upgrade-insecure-requests",
    USER_AGENT = "user-agent", VARY = "vary", VIA = "via", WWW_AUTHENTICATE = "www-authenticate", DNT = "dnt",
    CDN_LOOP = "cdn-loop", X_FRAME_OPTIONS = "x-frame-options", X_CONTENT_TYPE_OPTIONS = "x-content-type-options",
    ACCEPT_CHARSET = "accept-charset", REFRESH = "refresh",
    ACCESS_CONTROL_ALLOW_PRIVATE_NETWORK = "access-control-allow-private-network",
    ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK = "access-control-request-private-network",
    GRPC_STATUS = "grpc-status", GRPC_MESSAGE = "grpc-message", GRPC_TIMEOUT = "grpc-timeout", GRPC_ENCODING = "grpc-encoding",
    GRPC_ACCEPT_ENCODING = "grpc-accept-encoding", GRPC_STATUS_DETAILS_BIN = "grpc-status-details-bin",
    X_FORWARDED_FOR = "x-forwarded-for", X_FORWARDED_PROTO = "x-forwarded-proto", X_FORWARDED_HOST = "x-forwarded-host",
    X_FORWARDED_PORT = "x-forwarded-port", X_FORWARDED_CLIENT_CERT = "x-forwarded-client-cert", X_REAL_IP = "x-real-ip",
    X_REQUEST_ID = "x-request-id", X_CLIENT_TRACE_ID = "x-client-trace-id", X_B3_TRACEID = "x-b3-traceid", X_B3_SPANID = "x-b3-spanid",
    X_B3_SAMPLED = "x-b3-sampled", TRACEPARENT = "traceparent", TRACESTATE = "tracestate",
    X_ENVOY_ATTEMPT_COUNT = "x-envoy-attempt-count", X_ENVOY_DECORATOR_OPERATION = "x-envoy-decorator-operation",
    X_ENVOY_DEGRADED = "x-envoy-degraded", X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER = "x-envoy-downstream-service-cluster",
    X_ENVOY_DOWNSTREAM_SERVICE_NODE = "x-envoy-downstream-service-node", X_ENVOY_EXPECTED_RQ_TIMEOUT_MS = "x-envoy-expected-rq-timeout-ms",
    X_ENVOY_EXTERNAL_ADDRESS = "x-envoy-external-address", X_ENVOY_FORCE_TRACE = "x-envoy-force-trace",
    X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT = "x-envoy-hedge-on-per-try-timeout",
    X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL = "x-envoy-immediate-health-check-fail", X_ENVOY_INTERNAL = "x-envoy-internal",
    X_ENVOY_IP_TAGS = "x-envoy-ip-tags", X_ENVOY_IS_TIMEOUT_RETRY = "x-envoy-is-timeout-retry",
    X_ENVOY_LOCAL_OVERLOADED = "x-envoy-local-overloaded", X_ENVOY_MAX_RETRIES = "x-envoy-max-retries",
    X_ENVOY_ORIGINAL_DST_HOST = "x-envoy-original-dst-host", X_ENVOY_ORIGINAL_HOST = "x-envoy-original-host",
    X_ENVOY_ORIGINAL_METHOD = "x-envoy-original-method", X_ENVOY_ORIGINAL_PATH = "x-envoy-original-path",
    X_ENVOY_ORIGINAL_URL = "x-envoy-original-url", X_ENVOY_OVERLOADED = "x-envoy-overloaded", X_ENVOY_RATELIMITED = "x-envoy-ratelimited",
    X_ENVOY_RETRIABLE_HEADER_NAMES = "x-envoy-retriable-header-names", X_ENVOY_RETRIABLE_STATUS_CODES = "x-envoy-retriable-status-codes",
    X_ENVOY_RETRY_GRPC_ON = "x-envoy-retry-grpc-on", X_ENVOY_RETRY_ON = "x-envoy-retry-on",
    X_ENVOY_UPSTREAM_ALT_STAT_NAME = "x-envoy-upstream-alt-stat-name", X_ENVOY_UPSTREAM_CANARY = "x-envoy-upstream-canary",
    X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER = "x-envoy-upstream-healthchecked-cluster",
    X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS = "x-envoy-upstream-rq-per-try-timeout-ms",
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE = "x-envoy-upstream-rq-timeout-alt-response",
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS = "x-envoy-upstream-rq-timeout-ms", X_ENVOY_UPSTREAM_SERVICE_TIME = "x-envoy-upstream-service-time",
    X_ENVOY_UPSTREAM_STREAM_DURATION_MS = "x-envoy-upstream-stream-duration-ms",
}

const LAST_PSEUDO: Id = STATUS;
/// Number of entries of the table, [`Id::OTHER`] included.
pub(crate) const COUNT: usize = KNOWN.len();
const INDEX_LEN: usize = 1024;
const _: () = assert!(KNOWN.len() * 4 < INDEX_LEN, "the index must stay sparse");
static INDEX: [u16; INDEX_LEN] = index();

/// The first and the last eight characters of a name, which overlap in a short one. The case of letters does not count: bit
/// 5 is set in all.
#[inline]
const fn key(name: &[u8]) -> (u64, u64) {
    let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (short_key(name), 0),
    };
    (first | BIT_5, last | BIT_5)
}
/// All characters of a name of less than eight.
#[inline]
const fn short_key(name: &[u8]) -> u64 {
    match (name.first_chunk::<4>(), name.last_chunk::<4>(), name) {
        (Some(first), Some(last), _) => {
            u32::from_le_bytes(*first) as u64 | (u32::from_le_bytes(*last) as u64) << 32
        }
        (_, _, [first, .., last]) => {
            *first as u64 | (name[name.len() / 2] as u64) << 8 | (*last as u64) << 16
        }
        (_, _, [one]) => *one as u64,
        _ => 0,
    }
}
static KEYS: [(u64, u64); COUNT] = keys();
const fn keys() -> [(u64, u64); COUNT] {
    let mut t = [(0, 0); COUNT];
    let mut i = 1;
    while i < COUNT {
        t[i] = key(KNOWN[i].as_bytes());
        i += 1;
    }
    t
}

const fn hash((first, last): (u64, u64), len: usize) -> usize {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (first ^ last.rotate_left(23) ^ len as u64).wrapping_mul(K);
    (mixed >> (64 - INDEX_LEN.trailing_zeros())) as usize
}

const BIT_5: u64 = 0x2020_2020_2020_2020;

/// `known` is `name` in lower case; both have the same length. Among the characters of tokens, setting bit 5 makes
/// a character of a known name only from itself and its upper case.
fn is_lowered(known: &[u8], name: &[u8]) -> bool {
    let ((known, known_rest), (name, name_rest)) = (known.as_chunks::<8>(), name.as_chunks::<8>());
    known.iter().zip(name).all(|(k, n)| u64::from_le_bytes(*k) == u64::from_le_bytes(*n) | BIT_5)
        && known_rest.iter().zip(name_rest).all(|(k, n)| *k == *n | 0x20)
}

const fn index() -> [u16; INDEX_LEN] {
    let mut t = [0u16; INDEX_LEN];
    let mut i = 1;
    while i < KNOWN.len() {
        let mut slot = hash(key(KNOWN[i].as_bytes()), KNOWN[i].len());
        while t[slot] != 0 {
            slot = (slot + 1) % INDEX_LEN;
        }
        t[slot] = i as u16;
        i += 1;
    }
    t
}

/// Something that names a header: an [`Id`], a configured [`HeaderName`], or a lower-case `&str`.
pub trait AsName {
    /// The number, when the name is well known.
    fn id(&self) -> Id;
    /// The lower-case text.
    fn text(&self) -> &[u8];
}

impl AsName for Id {
    fn id(&self) -> Id {
        *self
    }
    fn text(&self) -> &[u8] {
        Id::text(*self).as_bytes()
    }
}

/// Must be lower case; [`HeaderName::new`] takes any case.
impl AsName for &str {
    fn id(&self) -> Id {
        Id::of(self.as_bytes())
    }
    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Must be lower case.
impl AsName for &[u8] {
    fn id(&self) -> Id {
        Id::of(self)
    }
    fn text(&self) -> &[u8] {
        self
    }
}

impl AsName for &HeaderName {
    fn id(&self) -> Id {
        self.id
    }
    fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// A header name from configuration, lower-cased and looked up once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderName {
    id: Id,
    text: Arc<str>,
}

impl HeaderName {
    /// Lower-cases `name` and looks it up.
    pub fn new(name: &str) -> HeaderName {
        let text = name.to_ascii_lowercase();
        HeaderName { id: Id::of(text.as_bytes()), text: text.into() }
    }
    /// The well-known number, or [`Id::OTHER`].
    pub fn id(&self) -> Id {
        self.id
    }
    /// The lower-case text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_finds_itself() {
        for (i, n) in KNOWN.iter().enumerate().skip(1) {
            assert_eq!(Id::of(n.as_bytes()).0 as usize, i, "{n}");
            assert_eq!(Id::of_any_case(n.to_ascii_uppercase().as_bytes()).0 as usize, i, "{n}");
            assert_eq!(n.to_ascii_lowercase(), *n);
        }
        assert_eq!(Id::of(b"x-no-such"), Id::OTHER);
        assert_eq!(Id::of(b""), Id::OTHER);
    }

    #[test]
    fn names_from_configuration_are_lower_cased() {
        let n = HeaderName::new("Content-TYPE");
        assert_eq!((n.id(), n.as_str()), (CONTENT_TYPE, "content-type"));
    }

    #[test]
    fn pseudo_names() {
        assert!(METHOD.is_pseudo() && STATUS.is_pseudo() && !HOST.is_pseudo() && !Id::OTHER.is_pseudo());
    }
}
