//! One rule: where a value comes from, what becomes of it, and where it goes.

use nuncio_api::envoy::extensions::filters::http::header_to_metadata::v3::config as pb;
use nuncio_core::matchers::RegexSubstitution;
use nuncio_core::{BuildError, BuildResult, cookie};
use nuncio_wire::{HeaderMap, HeaderName};
use prost_types::Value;
use prost_types::value::Kind;

use nuncio_core::base64;

/// A value of this length or more is not taken.
const MAX_VALUE: usize = 8 * 1024;

/// `Config.Rule`
pub struct Rule {
    source: Source,
    /// When there is a value.
    pub present: Option<Target>,
    /// When there is none.
    pub missing: Option<Target>,
}

enum Source {
    Header { name: HeaderName, remove: bool },
    Cookie(String),
}

/// `Config.KeyValuePair`
pub struct Target {
    /// Name space of the metadata.
    pub namespace: String,
    /// Key in it.
    pub key: String,
    value: String,
    rewrite: Option<RegexSubstitution>,
    kind: pb::ValueType,
    base64: bool,
}

/// Why a value is not added, where that is counted.
pub enum Failure {
    /// It is empty, or cannot be read as what it should be.
    Silent,
    /// It is too long.
    TooLong,
    /// It is not base64.
    Base64,
}

impl Rule {
    /// From configuration.
    ///
    /// # Errors
    /// In Envoy's words.
    pub fn new(r: &pb::Rule) -> BuildResult<Rule> {
        if !r.cookie.is_empty() && !r.header.is_empty() {
            return Err("Cannot specify both header and cookie in the same rule".into());
        }
        let (source, described) = if !r.header.is_empty() {
            let name = HeaderName::new(&r.header);
            (Source::Header { name, remove: r.remove }, format!("header '{}'", r.header.to_ascii_lowercase()))
        } else if !r.cookie.is_empty() {
            (Source::Cookie(r.cookie.clone()), format!("cookie '{}'", r.cookie))
        } else {
            return Err("One of Cookie or Header option needs to be specified".into());
        };
        if r.on_header_present.is_none() && r.on_header_missing.is_none() {
            return Err(BuildError(format!(
                "header to metadata filter: rule for {described} has neither `on_header_present` nor \
                 `on_header_missing` set"
            )));
        }
        if let Some(p) = &r.on_header_present
            && !p.value.is_empty()
            && p.regex_value_rewrite.is_some()
        {
            return Err("Cannot specify both value and regex_value_rewrite".into());
        }
        if !r.cookie.is_empty() && r.remove {
            return Err("Cannot specify remove for cookie".into());
        }
        if r.on_header_missing.as_ref().is_some_and(|m| m.value.is_empty()) {
            return Err("Cannot specify on_header_missing rule with an empty value".into());
        }
        let target = |t: Option<&pb::KeyValuePair>| t.map(Target::new).transpose();
        let (present, missing) = (r.on_header_present.as_deref(), r.on_header_missing.as_deref());
        Ok(Rule { source, present: target(present)?, missing: target(missing)? })
    }
    /// The value in these headers; all lines of a header joined.
    pub fn take(&self, headers: &mut HeaderMap) -> Option<Vec<u8>> {
        match &self.source {
            Source::Header { name, remove } => {
                let value = headers.joined(name)?.into_owned();
                if *remove {
                    headers.remove(name);
                }
                Some(value)
            }
            Source::Cookie(name) => {
                cookie::get(headers, name.as_bytes()).filter(|v| !v.is_empty()).map(<[u8]>::to_vec)
            }
        }
    }
}

impl Target {
    fn new(t: &pb::KeyValuePair) -> BuildResult<Target> {
        let namespace = if t.metadata_namespace.is_empty() { super::NAME } else { &t.metadata_namespace };
        Ok(Target {
            namespace: namespace.to_owned(),
            key: t.key.clone(),
            value: t.value.clone(),
            rewrite: t.regex_value_rewrite.as_ref().map(RegexSubstitution::new).transpose()?,
            kind: t.r#type(),
            base64: t.encode() == pb::ValueEncode::Base64,
        })
    }
    /// The text to be stored for what was found, and whether a substitution left nothing of it.
    pub fn text(&self, found: Option<Vec<u8>>) -> (Vec<u8>, bool) {
        if !self.value.is_empty() {
            return (self.value.clone().into_bytes(), false);
        }
        let found = found.unwrap_or_default();
        let Some(rewrite) = &self.rewrite else { return (found, false) };
        let mut out = vec![];
        rewrite.replace_all(&found, &mut out);
        let lost = !found.is_empty() && out.is_empty();
        (out, lost)
    }
    /// The text as the value it should be.
    ///
    /// # Errors
    /// It is not added.
    pub fn value(&self, mut text: Vec<u8>) -> Result<Value, Failure> {
        if text.is_empty() {
            return Err(Failure::Silent);
        }
        if text.len() >= MAX_VALUE {
            return Err(Failure::TooLong);
        }
        if self.base64 {
            text = base64::decode(&text).filter(|t| !t.is_empty()).ok_or(Failure::Base64)?;
        }
        let kind = match self.kind {
            pb::ValueType::String => Kind::StringValue(String::from_utf8_lossy(&text).into_owned()),
            pb::ValueType::Number => {
                let text = std::str::from_utf8(&text).map_err(|_| Failure::Silent)?;
                Kind::NumberValue(text.trim().parse().map_err(|_| Failure::Silent)?)
            }
            pb::ValueType::ProtobufValue => {
                return prost::Message::decode(&*text).map_err(|_| Failure::Silent);
            }
        };
        Ok(Value { kind: Some(kind) })
    }
}
