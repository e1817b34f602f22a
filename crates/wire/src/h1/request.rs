//! A request head: the request line, its headers, and the framing that follows.

use super::body::Framing;
use super::chars::{is_authority, trim};
use super::connection;
use super::error::{Cause, H1Error};
use super::fields::{Facts, FieldRules, split};
use super::lines::{Cut, Lines};
use super::settings::{ServerSettings, Underscores};
use super::{Upgrade, target};
use crate::buf::ReadBuf;
use crate::chars::{first_control, is_token, is_visible};
use crate::head::{RequestHead, Version};
use crate::headers::HeaderMap;
use crate::name;

/// A request head that was read to its end.
#[derive(Debug)]
pub struct RequestStart {
    /// `:method`, `:path` (absent for CONNECT), `:authority` (from `Host` or the target; absent when there is
    /// neither), `:scheme` (only when the target was a URL), then the headers as they came.
    /// `transfer-encoding`, `connection` and `upgrade` are still there; headers that `connection` named are not.
    pub head: RequestHead,
    /// A body may follow; false: the request is complete with its head.
    pub has_body: bool,
    /// Length of the body when it is declared.
    pub content_length: Option<u64>,
    /// `expect: 100-continue` (RFC 9110 §10.1.1); the header is still there.
    pub expect_continue: bool,
    /// What the connection is asked to become. Its bytes are withheld until the response decides.
    pub upgrade: Upgrade,
    /// The client wants the connection kept after the response (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Headers left out for their underscores (`http1.dropped_headers_with_underscores`).
    pub dropped_underscores: u32,
    /// Size of the header lines as Envoy counts it: name, value and three bytes each.
    pub header_bytes: u32,
}

/// Methods Envoy knows (`allow_custom_methods` off), sorted.
const METHODS: [&[u8]; 35] = [
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"QUERY",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

/// Reads one request head after the other.
#[derive(Default, Debug)]
pub(super) struct RequestReader {
    /// One of which a part is there; seldom, and large: connections that wait have none.
    begun: Option<Box<Begun>>,
    #[cfg(test)]
    work: usize,
}

/// A request head being read.
#[derive(Default, Debug)]
struct Begun {
    lines: Lines,
    headers: HeaderMap,
    facts: Facts,
    version: Version,
    /// The request line was read.
    has_line: bool,
    connect: bool,
    /// HTTP/0.9: the request is its first line.
    simple: bool,
    dropped_underscores: u32,
    header_bytes: u32,
}

/// Method, target and version of a request line, whatever they are.
fn words(line: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let cut = |s: &[u8]| s.iter().position(|c| matches!(c, b' ' | b'\t')).unwrap_or(s.len());
    let (method, rest) = line.split_at(cut(line));
    if let [b' ', target @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'] = rest
        && !target.is_empty()
        && is_visible(target)
    {
        return (method, target, b"HTTP/1.1");
    }
    let rest = trim(rest);
    let (target, rest) = rest.split_at(cut(rest));
    (method, target, trim(rest))
}

impl RequestReader {
    /// True when no byte of a head was seen (line ends before it aside).
    pub(super) fn untouched(&self) -> bool {
        self.begun.is_none()
    }
    #[cfg(test)]
    pub(super) fn work(&self) -> usize {
        self.work + self.begun.as_ref().map_or(0, |b| b.lines.work)
    }

    /// Reads on; the head and its framing once it is complete.
    pub(super) fn read(
        &mut self,
        buf: &mut ReadBuf,
        settings: &ServerSettings,
        tls: bool,
    ) -> Result<Option<(RequestStart, Framing)>, H1Error> {
        if buf.is_empty() {
            return Ok(None);
        }
        let mut whole = Begun::default();
        let head = self.begun.as_deref_mut().unwrap_or(&mut whole);
        if !head.read(buf, settings)? {
            if self.begun.is_none() && whole.is_touched() {
                self.begun = Some(Box::new(whole));
            }
            return Ok(None);
        }
        if let Some(begun) = self.begun.take() {
            whole = *begun;
        }
        #[cfg(test)]
        {
            self.work += whole.lines.work;
        }
        Ok(Some(whole.finish(settings, tls)?))
    }
}

impl Begun {
    fn is_touched(&self) -> bool {
        self.has_line || self.lines.is_inside_line()
    }
    /// Reads on; true when the head is complete.
    fn read(&mut self, buf: &mut ReadBuf, settings: &ServerSettings) -> Result<bool, Cause> {
        let data = buf.data();
        let mut at = 0;
        let complete = loop {
            let Some(line) = self.lines.next(&data[at..], settings.max_head_bytes)? else {
                break false;
            };
            at += line.len;
            if !self.has_line {
                if line.text.is_empty() {
                    self.lines.restart(); // RFC 9112 §2.2: line ends before a request do not count
                } else {
                    self.request_line(line.text, settings)?;
                    if self.simple {
                        break true;
                    }
                }
            } else if line.text.is_empty() {
                break true;
            } else {
                self.field(&line, settings)?;
            }
        };
        buf.consume(at);
        Ok(complete)
    }

    /// `method SP target SP version`; Envoy also takes more blanks, blanks at the end, and no version
    /// (HTTP/0.9: then there are no headers).
    fn request_line(&mut self, line: &[u8], settings: &ServerSettings) -> Result<(), Cause> {
        match first_control(line) {
            Some(b'\r') => return Err(Cause::LoneCr),
            Some(_) => return Err(Cause::Characters),
            None => {}
        }
        let (method, target, version) = words(line);

        let known = if settings.allow_custom_methods {
            is_token(method)
        } else {
            matches!(method, b"GET" | b"POST") || METHODS.binary_search(&method).is_ok()
        };
        if !known {
            return Err(Cause::Method);
        }
        self.connect = method == b"CONNECT";
        if !target::is_plausible(target, self.connect) {
            return Err(Cause::Target);
        }
        self.simple = version.is_empty();
        self.version = match version {
            b"HTTP/1.1" => Version::Http11,
            // Whatever is not 1.1 is served as 1.0, if at all.
            [] | [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Version::Http10,
            _ => return Err(Cause::Version),
        };
        self.has_line = true;
        self.headers = HeaderMap::new();
        self.headers.set_name_case(settings.header_case.of_read());
        self.headers.push_checked(name::METHOD, method);
        self.headers.push_checked(name::PATH, target);
        Ok(())
    }

    fn field(&mut self, line: &Cut<'_>, settings: &ServerSettings) -> Result<(), Cause> {
        let line = split(line)?;
        self.header_bytes += (line.name.len() + line.value.len() + 3) as u32; // bounded by the head's limit
        if settings.underscores != Underscores::Allow && line.name.contains(&b'_') {
            if settings.underscores == Underscores::Reject {
                return Err(Cause::Underscore);
            }
            self.dropped_underscores += 1;
            return Ok(());
        }
        let rules =
            FieldRules { max: settings.max_headers, keep_case: settings.header_case.keeps(), request: true };
        self.facts.add(&line, &mut self.headers, rules)
    }

    /// All lines are there: the checks that need the whole head, in Envoy's order.
    fn finish(mut self, settings: &ServerSettings, tls: bool) -> Result<(RequestStart, Framing), Cause> {
        self.facts.join(&mut self.headers, true);
        let mut upgrade = Upgrade::None;
        if self.facts.upgrade && connection::is_upgrade(&self.headers) {
            connection::drop_ignored_upgrades(&mut self.headers, settings.ignore_upgrade.as_ref());
            if connection::is_upgrade(&self.headers) {
                upgrade = Upgrade::Token;
            }
        }
        if self.connect {
            match self.facts.content_length {
                None => {}
                Some(0) => {
                    self.headers.remove(name::CONTENT_LENGTH);
                    self.facts.content_length = None;
                }
                Some(_) => return Err(Cause::ConnectBody),
            }
            upgrade = Upgrade::Connect;
        }
        let chunked = self.chunked(settings, upgrade)?;
        let closes = connection::closes(self.version, chunked, &self.headers, &self.facts);
        if upgrade == Upgrade::None && self.facts.connection && self.headers.contains(name::CONNECTION) {
            connection::sanitize(&mut self.headers)?;
        }
        self.target(settings, tls)?;
        if self.version == Version::Http10 {
            if !settings.accept_http_10 {
                return Err(Cause::LowVersion);
            }
            if !self.headers.contains(name::AUTHORITY) && !settings.default_host_for_http_10.is_empty() {
                self.headers.append(name::AUTHORITY, settings.default_host_for_http_10.as_bytes());
            }
        }
        if self.headers.get(name::AUTHORITY).is_some_and(|a| !is_authority(a)) {
            return Err(Cause::Authority);
        }
        let framing = match (chunked, self.facts.content_length) {
            (true, _) => Framing::Chunked,
            (false, Some(n)) if n > 0 => Framing::Length(n),
            _ => Framing::None,
        };
        let expect_continue = self.facts.expect
            && self.headers.get(name::EXPECT).is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
        let start = RequestStart {
            has_body: framing != Framing::None || upgrade != Upgrade::None,
            content_length: self.facts.content_length,
            expect_continue,
            upgrade,
            keep_alive: !closes,
            dropped_underscores: self.dropped_underscores,
            header_bytes: self.header_bytes,
            head: RequestHead { headers: self.headers, version: self.version },
        };
        Ok((start, framing))
    }

    /// True when the body comes in chunks. One coding only, and never beside a length (RFC 9112 §6.3).
    fn chunked(&mut self, settings: &ServerSettings, upgrade: Upgrade) -> Result<bool, Cause> {
        if !self.facts.transfer_encoding {
            return Ok(false);
        }
        let coding = self.headers.get(name::TRANSFER_ENCODING).unwrap_or_default();
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        if self.facts.content_length.is_some() {
            if !(chunked && settings.allow_chunked_length) {
                return Err(Cause::LengthAndChunked);
            }
            self.headers.remove(name::CONTENT_LENGTH);
            self.facts.content_length = None;
        }
        // Chunks before an upgrade would reach the upstream as raw bytes of the new protocol.
        if !chunked || upgrade != Upgrade::None {
            return Err(Cause::TransferEncoding);
        }
        Ok(true)
    }

    /// Absolute-form and authority-form replace the Host header (RFC 9112 §3.2.2).
    fn target(&mut self, settings: &ServerSettings, tls: bool) -> Result<(), Cause> {
        let method = self.headers.get(name::METHOD).unwrap_or_default();
        let raw = self.headers.get(name::PATH).unwrap_or_default();
        if self.connect {
            let authority = target::parse_authority(raw).ok_or(Cause::Url)?.to_vec();
            self.headers.remove(name::PATH);
            self.headers.set(name::AUTHORITY, &authority);
            return Ok(());
        }
        let as_it_is = match raw.first() {
            Some(b'/') => true,
            Some(b'*') => method == b"OPTIONS",
            _ => false,
        };
        if as_it_is || !settings.allow_absolute_url {
            return Ok(());
        }
        let raw = raw.to_vec();
        let url = target::parse_absolute(&raw).ok_or(Cause::Url)?;
        let scheme = url.scheme.to_ascii_lowercase();
        if scheme != b"http" && scheme != b"https" {
            return Err(Cause::Scheme);
        }
        if settings.validate_scheme && scheme == b"https" && !tls {
            return Err(Cause::HttpsInPlaintext);
        }
        self.headers.set(name::PATH, url.path);
        self.headers.set(name::AUTHORITY, url.authority);
        self.headers.append(name::SCHEME, &scheme);
        Ok(())
    }
}
