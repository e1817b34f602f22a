//! A response head: the status line, its headers, and the framing that follows.

use super::Upgrade;
use super::body::Framing;
use super::client::ResponseStart;
use super::connection;
use super::error::Cause;
use super::fields::{Facts, FieldRules, split};
use super::lines::Lines;
use super::settings::ClientSettings;
use crate::buf::ReadBuf;
use crate::chars::first_control;
use crate::head::{ResponseHead, Version};
use crate::headers::HeaderMap;
use crate::name;

/// What the request was, as far as its response depends on it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Asked {
    pub head: bool,
    pub upgrade: Upgrade,
}

/// A response head being read.
#[derive(Default, Debug)]
pub(super) struct ResponseReader {
    lines: Lines,
    headers: HeaderMap,
    facts: Facts,
    /// Version and status once the status line was read.
    line: Option<(Version, u16)>,
    header_bytes: u32,
}

impl ResponseReader {
    /// True when no byte of a head was seen.
    pub(super) fn untouched(&self) -> bool {
        self.line.is_none() && !self.lines.is_inside_line()
    }
    #[cfg(test)]
    pub(super) fn work(&self) -> usize {
        self.lines.work
    }

    /// Reads on; the head and its framing once it is complete.
    pub(super) fn read(
        &mut self,
        buf: &mut ReadBuf,
        settings: &ClientSettings,
        asked: Asked,
    ) -> Result<Option<(ResponseStart, Framing)>, Cause> {
        let data = buf.data();
        if self.untouched() && data.first().is_some_and(|&c| c != b'H') {
            return Err(Cause::StatusLine);
        }
        let mut at = 0;
        let complete = loop {
            let Some(line) = self.lines.next(&data[at..], settings.max_head_bytes)? else {
                break false;
            };
            at += line.len;
            if self.line.is_none() {
                self.line = Some(status_line(line.text)?);
                self.headers = HeaderMap::new();
                self.headers.set_name_case(settings.header_case.of_read());
            } else if line.text.is_empty() {
                break true;
            } else {
                let line = split(&line)?;
                self.header_bytes += (line.name.len() + line.value.len() + 3) as u32; // bounded by the head's limit
                let rules = FieldRules {
                    max: settings.max_headers,
                    keep_case: settings.header_case.keeps(),
                    request: false,
                };
                self.facts.add(&line, &mut self.headers, rules)?;
            }
        };
        buf.consume(at);
        if !complete {
            return Ok(None);
        }
        self.lines.restart();
        let done = std::mem::take(self);
        #[cfg(test)]
        {
            self.lines.work = done.lines.work;
        }
        done.finish(settings, asked).map(Some)
    }

    /// All lines are there: the framing (RFC 9112 §6.3), in Envoy's order of checks.
    fn finish(mut self, settings: &ClientSettings, asked: Asked) -> Result<(ResponseStart, Framing), Cause> {
        let (version, status) = self.line.unwrap_or_default();
        self.facts.join(&mut self.headers, false);
        let chunked = self.chunked(settings)?;
        let closes = connection::closes(version, chunked, &self.headers, &self.facts);
        if status < 200 || status == 204 {
            if self.facts.transfer_encoding {
                return Err(Cause::TransferEncodingNotAllowed);
            }
            match self.facts.content_length {
                None => {}
                Some(0) => {
                    self.headers.remove(name::CONTENT_LENGTH);
                    self.facts.content_length = None;
                }
                Some(_) => return Err(Cause::ContentLengthNotAllowed),
            }
        }
        let upgraded = match asked.upgrade {
            Upgrade::None => false,
            Upgrade::Token => status == 101 && connection::is_upgrade(&self.headers),
            Upgrade::Connect => (200..300).contains(&status),
        };
        if status == 101 && !upgraded {
            return Err(Cause::Status); // Nobody asked for it: what follows would have no framing.
        }
        let informational = status < 200 && status != 101;
        let framing = match self.facts.content_length {
            _ if upgraded => Framing::UntilEof,
            _ if asked.head || status < 200 || status == 204 || status == 304 => Framing::None,
            _ if chunked => Framing::Chunked,
            Some(0) => Framing::None,
            Some(n) => Framing::Length(n),
            None => Framing::UntilEof,
        };
        let start = ResponseStart {
            informational,
            has_body: framing != Framing::None,
            content_length: self.facts.content_length,
            upgraded,
            keep_alive: !closes && framing != Framing::UntilEof,
            header_bytes: self.header_bytes,
            head: ResponseHead { status, headers: self.headers, version },
        };
        Ok((start, framing))
    }

    fn chunked(&mut self, settings: &ClientSettings) -> Result<bool, Cause> {
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
        if chunked { Ok(true) } else { Err(Cause::TransferEncoding) }
    }
}

/// `HTTP/x.y SP status [SP reason]`; Envoy also takes more blanks.
fn status_line(line: &[u8]) -> Result<(Version, u16), Cause> {
    match first_control(line) {
        Some(b'\r') => return Err(Cause::LoneCr),
        Some(_) => return Err(Cause::Characters),
        None => {}
    }
    let mut words = line.split(|c| matches!(c, b' ' | b'\t')).filter(|w| !w.is_empty());
    let version = match words.next() {
        Some(b"HTTP/1.1") => Version::Http11,
        Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) => Version::Http10,
        _ => return Err(Cause::Version),
    };
    match words.next() {
        Some([a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            let digit = |c: &u8| u16::from(c - b'0');
            Ok((version, digit(a) * 100 + digit(b) * 10 + digit(c)))
        }
        _ => Err(Cause::Status),
    }
}
