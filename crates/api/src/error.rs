//! What is wrong with a configuration: Envoy's phrase, and more than Envoy says.

use crate::tree::{Position, SyntaxError};
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or what else the text came from.
    pub source: String,
    /// Where in the file.
    pub position: Option<Position>,
    /// Where in the message, e.g. `static_resources.listeners[0].filter_chains[0]`.
    pub path: String,
    /// What Envoy says, without its dump of the document.
    pub phrase: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// What it amounts to.
    pub severity: Severity,
    /// What Envoy would notice first has the lowest rank.
    pub(crate) rank: Rank,
}

/// What becomes of a configuration of which something is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// It is refused.
    #[default]
    Refused,
    /// It has what the schema does not know: refused in static configuration, else left out with a warning.
    Unknown,
    /// It uses what is deprecated: a warning.
    Deprecated,
    /// It uses what is marked as work in progress: a warning.
    InProgress,
}

/// When Envoy notices an error. Within a stage, the lower order comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub stage: Stage,
    pub order: Vec<u32>,
}

/// The stages of Envoy's loading, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The file is missing, or no document.
    #[default]
    Text,
    /// The document does not fit the messages.
    Shape,
    /// The document has fields or enum values that the messages do not know: Envoy reports these only if nothing else is
    /// wrong with the shape.
    Unknown,
    /// A rule is broken; the order says in which message, from the outside in.
    Rule,
}

impl ConfigError {
    pub(crate) fn new(stage: Stage, phrase: impl Into<String>) -> Self {
        Self {
            source: String::new(),
            position: None,
            path: String::new(),
            phrase: phrase.into(),
            suggestion: None,
            severity: if stage == Stage::Unknown { Severity::Unknown } else { Severity::Refused },
            rank: Rank { stage, order: Vec::new() },
        }
    }
}

impl From<SyntaxError> for ConfigError {
    fn from(error: SyntaxError) -> Self {
        Self { position: error.position, ..Self::new(Stage::Text, error.phrase) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}:", self.source)?;
        }
        // A position of zero is that of a node without a text.
        if let Some(Position { line, column }) = self.position.filter(|position| position.line > 0) {
            write!(f, "{line}:{column}:")?;
        }
        if !self.source.is_empty() || self.position.is_some_and(|position| position.line > 0) {
            write!(f, " ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.phrase)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, " (did you mean '{suggestion}'?)")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong with a configuration; at least one error, in the order of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The errors in the order of the document. `errors` must not be empty.
    pub(crate) fn new(mut errors: Vec<ConfigError>) -> Self {
        debug_assert!(!errors.is_empty());
        errors.sort_by(|a, b| (a.position, &a.rank).cmp(&(b.position, &b.rank)));
        Self { errors }
    }

    /// All errors.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// The error that Envoy would report.
    pub fn first(&self) -> Option<&ConfigError> {
        self.errors.iter().min_by(|a, b| a.rank.cmp(&b.rank))
    }

    /// What Envoy would print.
    pub fn envoy_phrase(&self) -> &str {
        self.first().map_or("", |error| error.phrase.as_str())
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self { errors: vec![error] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
