//! From a format string to its parts.

use super::operator::Operator;
use crate::cel;
use crate::error::{BuildError, BuildResult};
use nuncio_api::envoy::config::core::v3 as pb;
use nuncio_api::envoy::extensions::formatter::cel::v3::Cel;
use prost::Message;
use std::borrow::Cow;

/// A piece of a format.
#[derive(Debug)]
pub(super) enum Part {
    /// Text as it stands.
    Literal(Vec<u8>),
    Operator(Operator),
}

/// Commands that exist only when a formatter extension is configured.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Extras {
    /// `envoy.formatter.req_without_query`.
    pub req_without_query: bool,
    /// What expressions may do.
    pub cel: cel::Options,
}

impl Extras {
    /// From `SubstitutionFormatString.formatters`.
    pub fn new(formatters: &[pb::TypedExtensionConfig]) -> BuildResult<Extras> {
        let mut extras = Extras::default();
        for f in formatters {
            let url = f.typed_config.as_ref().map_or("", |a| &a.type_url);
            match url.strip_prefix("type.googleapis.com/envoy.extensions.formatter.") {
                Some("req_without_query.v3.ReqWithoutQuery") => extras.req_without_query = true,
                // `%METADATA%` and `%CEL%` need no configuration in Envoy 1.40.
                Some("metadata.v3.Metadata") => {}
                Some("cel.v3.Cel") => {
                    let config = f.typed_config.as_ref().map_or(&[][..], |a| &a.value);
                    let config = Cel::decode(config).map_err(|e| BuildError(e.to_string()))?;
                    extras.cel = cel::Options::new(config.cel_config.as_ref());
                }
                Some(_) => {
                    return Err(BuildError::not_implemented(format_args!("formatter {} ({url})", f.name)));
                }
                None => return Err(BuildError(format!("Formatter not found: {}", f.name))),
            }
        }
        Ok(extras)
    }
}

/// Parses; errors have Envoy's texts. An empty format has one empty literal.
pub(super) fn parse(format: &str, extras: Extras) -> BuildResult<Vec<Part>> {
    let bytes = format.as_bytes();
    let mut parts = Vec::new();
    let mut text = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            text.push(bytes[at]);
            at += 1;
        } else if bytes.get(at + 1) == Some(&b'%') {
            text.push(b'%');
            at += 2;
        } else {
            let Some(c) = Command::at(&format[at..]) else {
                return Err(BuildError(format!(
                    "Incorrect configuration: {format}. Couldn't find valid command at position {at}"
                )));
            };
            if !text.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut text)));
            }
            parts.push(Part::Operator(Operator::new(c.name, c.params, c.max, extras)?));
            at += c.len;
        }
    }
    if !text.is_empty() || format.is_empty() {
        parts.push(Part::Literal(text));
    }
    Ok(parts)
}

/// `%NAME(params):max%`.
struct Command<'a> {
    name: &'a str,
    params: &'a str,
    max: Option<usize>,
    len: usize,
}

impl<'a> Command<'a> {
    /// The command at the start of `s`, which begins with `%`.
    fn at(s: &'a str) -> Option<Command<'a>> {
        let name_len =
            s[1..].bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_').count();
        let (name, rest) = s[1..].split_at(name_len);
        if name.is_empty() {
            return None;
        }
        let end = |params: &'a str, rest: &'a str| {
            let (max, rest) = length(rest)?;
            let rest = rest.strip_prefix('%')?;
            Some(Command { name, params, max, len: s.len() - rest.len() })
        };
        if let Some(inner) = rest.strip_prefix('(') {
            // Up to the first `)` behind which the command can end; never across lines.
            for (i, _) in inner.match_indices(')').take_while(|(i, _)| !inner[..*i].contains('\n')) {
                if let Some(c) = end(&inner[..i], &inner[i + 1..]) {
                    return Some(c);
                }
            }
            return None;
        }
        end("", rest)
    }
}

/// `:N`, if it is there; `None` when it is no number.
fn length(s: &str) -> Option<(Option<usize>, &str)> {
    let Some(rest) = s.strip_prefix(':') else { return Some((None, s)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let n: u64 = rest[..digits].parse().ok()?;
    Some((Some(usize::try_from(n).unwrap_or(usize::MAX)), &rest[digits..]))
}

/// Older spellings that Envoy still takes in headers, in today's: `%PER_REQUEST_STATE(x)%` is
/// `%FILTER_STATE(x:PLAIN)%`, `%UPSTREAM_METADATA(["a", "b"])%` is `%UPSTREAM_METADATA(a:b)%`.
pub(super) fn modernize(value: &str) -> Cow<'_, str> {
    const STATE: &str = "%PER_REQUEST_STATE(";
    const METADATA: &str = "_METADATA([";
    if !value.contains(STATE) && !value.contains(METADATA) {
        return Cow::Borrowed(value);
    }
    let mut out = String::new();
    let mut rest = value;
    loop {
        let state = rest.find(STATE);
        let metadata = rest.find(METADATA);
        let Some(i) = state.into_iter().chain(metadata).min() else { break };
        if state == Some(i) {
            let inner = &rest[i + STATE.len()..];
            let Some(end) = inner.find(")%") else { break };
            out += &format!("{}%FILTER_STATE({}:PLAIN)%", &rest[..i], &inner[..end]);
            rest = &inner[end + 2..];
        } else {
            let inner = &rest[i + METADATA.len()..];
            let Some(end) = inner.find("])") else { break };
            let keys: Vec<&str> = inner[..end].split(',').map(|k| k.trim().trim_matches('"')).collect();
            out += &format!("{}_METADATA({})", &rest[..i], keys.join(":"));
            rest = &inner[end + 2..];
        }
    }
    out += rest;
    Cow::Owned(out)
}
