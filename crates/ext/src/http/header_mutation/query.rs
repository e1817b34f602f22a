//! Mutations of query parameters (`envoy.config.core.v3.KeyValueMutation`).

use super::target::Target;
use nuncio_api::envoy::config::core::v3 as pb;
use nuncio_core::BuildResult;
use nuncio_core::format::HeaderFormatter;
use nuncio_core::matchers::query;
use nuncio_wire::name;
use pb::key_value_append::KeyValueAppendAction as Action;
use std::collections::BTreeMap;

/// A list of mutations.
#[derive(Default)]
pub struct QueryMutations(Vec<Mutation>);

enum Mutation {
    Append { key: Vec<u8>, value: HeaderFormatter, action: Action },
    Remove(Vec<u8>),
}

/// Parameters, decoded, by name.
type Params = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

impl QueryMutations {
    /// From configuration.
    ///
    /// # Errors
    /// Neither or both of `append` and `remove`, a value that is no string, a bad format.
    pub fn new(list: &[pb::KeyValueMutation]) -> BuildResult<QueryMutations> {
        list.iter().map(Mutation::new).collect::<BuildResult<_>>().map(QueryMutations)
    }
    /// Changes the path. False when it would contain bytes that a path cannot have; it then stays as it was.
    pub fn apply(&self, target: &mut Target<'_>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(path) = target.headers().get(name::PATH).map(<[u8]>::to_vec) else { return true };
        let mut params = parse(&path);
        for m in &self.0 {
            m.apply(&mut params, target);
        }
        let end = path.iter().position(|b| *b == b'?').unwrap_or(path.len());
        let new = write(&path[..end], &params);
        if new.iter().any(|b| !(0x21..=0x7e).contains(b)) {
            return false;
        }
        target.headers().set(name::PATH, &new);
        true
    }
}

impl Mutation {
    fn new(m: &pb::KeyValueMutation) -> BuildResult<Mutation> {
        let Some(append) = &m.append else {
            if m.remove.is_empty() {
                return Err("One of 'append'/'remove' must be specified.".into());
            }
            return Ok(Mutation::Remove(m.remove.clone().into()));
        };
        if !m.remove.is_empty() {
            return Err("Only one of 'append'/'remove can be specified.".into());
        }
        let record = append.record.as_ref().ok_or("No record specified for append mutation.")?;
        let Some(prost_types::value::Kind::StringValue(value)) =
            record.value.as_ref().and_then(|v| v.kind.as_ref())
        else {
            return Err("Only string value is allowed for record value.".into());
        };
        let value = HeaderFormatter::new(value)?;
        Ok(Mutation::Append { key: record.key.clone().into(), value, action: append.action() })
    }
    fn apply(&self, params: &mut Params, target: &Target<'_>) {
        let (key, value, action) = match self {
            Mutation::Remove(key) => return drop(params.remove(key)),
            Mutation::Append { key, value, action } => (key, value, *action),
        };
        let present = params.contains_key(key);
        match action {
            Action::AddIfAbsent if present => return,
            Action::OverwriteIfExists if !present => return,
            Action::OverwriteIfExists | Action::OverwriteIfExistsOrAdd => drop(params.remove(key)),
            Action::AppendIfExistsOrAdd | Action::AddIfAbsent => {}
        }
        let mut text = vec![];
        value.append(&target.cx(), &mut text);
        params.entry(key.clone()).or_default().push(encode(&text));
    }
}

/// A path without the parameters of a name, the others written anew, as Envoy does; `None` when it would contain bytes
/// that a path cannot have.
pub(crate) fn without(path: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let mut params = parse(path);
    params.remove(key);
    let end = path.iter().position(|b| *b == b'?').unwrap_or(path.len());
    let new = write(&path[..end], &params);
    new.iter().all(|b| (0x21..=0x7e).contains(b)).then_some(new)
}

fn parse(path: &[u8]) -> Params {
    let mut params = Params::new();
    for (name, value) in query::params(query::of_path(path).unwrap_or_default()) {
        let name = query::decode(name).collect();
        params.entry(name).or_default().push(query::decode(value).collect());
    }
    params
}

fn write(path: &[u8], params: &Params) -> Vec<u8> {
    let mut out = path.to_vec();
    let mut before = b'?';
    for (name, values) in params {
        for value in values {
            out.push(before);
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(value);
            before = b'&';
        }
    }
    out
}

/// Percent-encodes all but letters, digits, `*`, `-`, `.` and `_`.
fn encode(text: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for &b in text {
        if b.is_ascii_alphanumeric() || matches!(b, b'*' | b'-' | b'.' | b'_') {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
    out
}
