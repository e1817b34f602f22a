//! Reads bodies: by length, in chunks (RFC 9112 §7.1), to the end of the stream, or raw after an upgrade.

use super::error::{Cause, Eof};
use super::fields::{Facts, FieldRules, split};
use super::lines::Lines;
use crate::buf::{Chunk, ReadBuf};
use crate::headers::HeaderMap;

/// What a body consists of, one piece at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// Read more bytes, or let the response decide about the upgrade.
    NeedMore,
    /// A piece of the body; never empty.
    Data(Chunk),
    /// The trailers; `End` follows.
    Trailers(HeaderMap),
    /// The body is complete. Asked again, the answer stays `End`.
    End,
}

/// How a body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Everything up to the end of the stream is body.
    UntilEof,
}

/// What comes behind the framed body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Then {
    /// The message ends.
    #[default]
    End,
    /// An upgrade was asked for and not answered: bytes stay unread.
    Undecided,
    /// The upgrade was accepted: raw bytes.
    Raw,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Done,
    Length(u64),
    UntilEof,
    Size(Size),
    ChunkData(u64),
    /// `\r` or `\n` behind the data comes next.
    ChunkEnd(u8),
    Trailers,
    /// The framed part is over, [`Then`] decides.
    Over,
}

/// Where in a chunk's first line we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    value: u64,
    /// There was a digit.
    digits: bool,
    part: SizePart,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SizePart {
    Digits,
    /// Blanks behind the size: an extension must follow (RFC 9112 §7.1.1, BWS).
    Blank,
    Extension,
    Quoted,
    QuotedPair,
    Lf,
}

const SIZE: State = State::Size(Size { value: 0, digits: false, part: SizePart::Digits });

/// Limits of a trailer section.
#[derive(Clone, Copy)]
pub(super) struct TrailerRules {
    pub max_bytes: usize,
    pub fields: FieldRules,
    /// Hand them on.
    pub enabled: bool,
}

/// Reads one body after the other.
#[derive(Default, Debug)]
pub(super) struct BodyReader {
    state: State,
    then: Then,
    /// Trailers of which a part is there; seldom, and large.
    begun: Option<Box<Trailers>>,
}

/// A trailer section being read.
#[derive(Default, Debug)]
struct Trailers {
    lines: Lines,
    trailers: HeaderMap,
    facts: Facts,
}

impl BodyReader {
    /// A new body begins; `undecided`: behind it, or instead of it, an upgrade waits for its answer.
    pub(super) fn start(&mut self, framing: Framing, undecided: bool) {
        self.then = if undecided { Then::Undecided } else { Then::End };
        self.state = match framing {
            Framing::None => State::Over,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => SIZE,
            Framing::UntilEof => State::UntilEof,
        };
        self.settle();
    }
    /// The answer to the upgrade: from here on (or from the end of the framed body on) bytes are raw, or the
    /// message ends.
    pub(super) fn decide(&mut self, raw: bool) {
        if self.then == Then::Undecided {
            self.then = if raw { Then::Raw } else { Then::End };
            self.settle();
        }
    }
    fn settle(&mut self) {
        if self.state == State::Over {
            self.state = match self.then {
                Then::End => State::Done,
                Then::Undecided => State::Over,
                Then::Raw => State::UntilEof,
            };
        }
    }
    /// True when `End` was or will be the next event.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }
    /// True when only the answer to an upgrade can bring the next event.
    pub(super) fn is_undecided(&self) -> bool {
        self.state == State::Over
    }
    /// What the end of the stream means here.
    pub(super) fn eof(&mut self) -> Eof {
        match self.state {
            State::Done => Eof::Idle,
            State::UntilEof => {
                self.state = State::Done;
                Eof::BodyEnd
            }
            _ => Eof::Incomplete,
        }
    }

    /// The next event.
    pub(super) fn read(&mut self, buf: &mut ReadBuf, rules: TrailerRules) -> Result<BodyEvent, Cause> {
        loop {
            match self.state {
                State::Done => return Ok(BodyEvent::End),
                State::Over => return Ok(BodyEvent::NeedMore),
                _ if buf.is_empty() => return Ok(BodyEvent::NeedMore),
                State::UntilEof => return Ok(BodyEvent::Data(buf.take(buf.len()))),
                State::Length(n) => {
                    let (chunk, left) = take(buf, n);
                    self.state = if left == 0 { State::Over } else { State::Length(left) };
                    self.settle();
                    return Ok(BodyEvent::Data(chunk));
                }
                State::ChunkData(n) => {
                    let (chunk, left) = take(buf, n);
                    self.state = if left == 0 { State::ChunkEnd(b'\r') } else { State::ChunkData(left) };
                    return Ok(BodyEvent::Data(chunk));
                }
                State::ChunkEnd(c) => {
                    if buf.data()[0] != c {
                        return Err(Cause::ChunkEnd);
                    }
                    buf.consume(1);
                    self.state = if c == b'\r' { State::ChunkEnd(b'\n') } else { SIZE };
                }
                State::Size(s) => self.size(s, buf)?,
                State::Trailers => {
                    let Some(trailers) = self.trailers(buf, rules)? else { return Ok(BodyEvent::NeedMore) };
                    if !trailers.is_empty() {
                        return Ok(BodyEvent::Trailers(trailers));
                    }
                }
            }
        }
    }

    /// `chunk-size [chunk-ext] CRLF`, as far as the buffer goes. Extensions are dropped, so nothing of the line is
    /// kept but the size, and its length needs no limit.
    fn size(&mut self, mut s: Size, buf: &mut ReadBuf) -> Result<(), Cause> {
        let mut used = 0;
        for &c in buf.data() {
            used += 1;
            s.part = match (s.part, c) {
                (SizePart::Lf, b'\n') => {
                    buf.consume(used);
                    self.state = match s.value {
                        0 => State::Trailers,
                        n => State::ChunkData(n),
                    };
                    return Ok(());
                }
                (SizePart::Digits, _) if c.is_ascii_hexdigit() => {
                    let digit = (c as char).to_digit(16).map_or(0, u64::from);
                    s.value = s.value.checked_mul(16).ok_or(Cause::ChunkSize)? + digit;
                    s.digits = true;
                    SizePart::Digits
                }
                (SizePart::Digits, _) if !s.digits => return Err(Cause::ChunkSize),
                (SizePart::Digits | SizePart::Extension, b'\r') => SizePart::Lf,
                (SizePart::Digits | SizePart::Blank, b' ' | b'\t') => SizePart::Blank,
                (SizePart::Digits | SizePart::Blank, b';') => SizePart::Extension,
                (SizePart::Extension, b'"') => SizePart::Quoted,
                (SizePart::Quoted, b'"') => SizePart::Extension,
                (SizePart::Quoted, b'\\') => SizePart::QuotedPair,
                (_, b'\r' | b'\n') => return Err(Cause::ChunkSize),
                (SizePart::QuotedPair, _) => SizePart::Quoted,
                (SizePart::Extension | SizePart::Quoted, _) => s.part,
                _ => return Err(Cause::ChunkSize),
            };
        }
        buf.consume(used);
        self.state = State::Size(s);
        Ok(())
    }

    /// The lines behind the last chunk, once the empty one was read.
    fn trailers(&mut self, buf: &mut ReadBuf, rules: TrailerRules) -> Result<Option<HeaderMap>, Cause> {
        let mut whole = Trailers::default();
        if !self.begun.as_deref_mut().unwrap_or(&mut whole).read(buf, rules)? {
            self.begun.get_or_insert_with(|| Box::new(whole));
            return Ok(None);
        }
        self.state = State::Over;
        self.settle();
        Ok(Some(self.begun.take().map_or(whole.trailers, |b| b.trailers)))
    }
}

impl Trailers {
    /// Reads on; true when the empty line was read.
    fn read(&mut self, buf: &mut ReadBuf, rules: TrailerRules) -> Result<bool, Cause> {
        let data = buf.data();
        let mut at = 0;
        let complete = loop {
            let Some(line) = self.lines.next(&data[at..], rules.max_bytes)? else { break false };
            at += line.len;
            // In chunked framing only CRLF ends a line.
            if data.get(at.wrapping_sub(2)) != Some(&b'\r') {
                return Err(Cause::ChunkEnd);
            }
            if line.text.is_empty() {
                break true;
            }
            let line = split(&line)?;
            if rules.enabled {
                if self.trailers.is_empty() {
                    self.trailers = HeaderMap::new();
                }
                self.facts.add_trailer(&line, &mut self.trailers, rules.fields)?;
            }
        };
        buf.consume(at);
        Ok(complete)
    }
}

/// Up to `n` bytes of the buffer, and how many of the `n` are left.
fn take(buf: &mut ReadBuf, n: u64) -> (Chunk, u64) {
    let have = usize::try_from(n).unwrap_or(usize::MAX).min(buf.len());
    (buf.take(have), n - have as u64)
}
