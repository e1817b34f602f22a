//! What the configuration asks of the server as a whole: the node, stats, the runtime, the admin interface.
//!
//! Listeners and clusters are the engine's; what is neither read here nor there is refused by name ([`coverage`]).

pub mod coverage;
mod discovery;
mod node;
mod stats;
#[cfg(test)]
mod tests;

pub use node::{Node, node};
pub use stats::settings;

use crate::options::Options;
use nuncio_api::envoy::config::bootstrap::v3 as pb;
use nuncio_api::load::{LoadOptions, LoadedParts, UnknownFields, load_bootstrap_parts, positions_in};
use nuncio_api::tree::Position;
use nuncio_core::coverage::{Coverage, Unread};
use nuncio_core::error::{BuildError, BuildResult};
use std::path::Path;
use std::time::Duration;

/// Why a configuration is refused: Envoy's one phrase, and everything we found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What Envoy says, and we too where Envoy is expected to say it.
    pub phrase: String,
    /// Each error with file, line, column and path; empty when the phrase says it all.
    pub details: Vec<String>,
}

impl From<BuildError> for Refusal {
    fn from(e: BuildError) -> Refusal {
        Refusal { phrase: e.0, details: Vec::new() }
    }
}

/// Reads and checks the configuration that the options name; whether it can be built shows later.
///
/// # Errors
/// It cannot be read, breaks a rule, or sets what nobody reads.
pub fn load(options: &Options, coverage: &Coverage) -> Result<LoadedParts, Refusal> {
    let unknown =
        if options.allow_unknown_static_fields { UnknownFields::Ignore } else { UnknownFields::Refuse };
    let from = LoadOptions {
        path: Some(Path::new(&options.config_path)).filter(|p| !p.as_os_str().is_empty()),
        yaml: Some(options.config_yaml.as_str()).filter(|y| !y.is_empty()),
        unknown_fields: unknown,
    };
    let loaded = load_bootstrap_parts(&from).map_err(|e| Refusal {
        phrase: e.envoy_phrase().to_owned(),
        details: e.errors().iter().map(ToString::to_string).collect(),
    })?;
    if let Some((path, phrase)) = discovery::check(&loaded, options) {
        let details = located(options, vec![(path, phrase.clone())]);
        return Err(Refusal { phrase, details });
    }
    let unread = coverage.check("envoy.config.bootstrap.v3.Bootstrap", &loaded.wire);
    match unread.split_first() {
        None => Ok(loaded),
        Some((first, _)) => {
            let phrase = BuildError::not_implemented(&first.field).0;
            let one = |u: &Unread| (u.path.clone(), BuildError::not_implemented(&u.field).0);
            Err(Refusal { phrase, details: located(options, unread.iter().map(one).collect()) })
        }
    }
}

/// Errors (path and text) that were found after loading, with their places in the file where those are known.
pub fn located(options: &Options, errors: Vec<(String, String)>) -> Vec<String> {
    let file = &options.config_path;
    let paths: Vec<&str> = errors.iter().map(|(path, _)| path.as_str()).collect();
    let places = positions_in(Path::new(file), &paths);
    let one = |((path, error), place): (&(String, String), Option<Position>)| match place {
        Some(at) => format!("{file}:{}:{}: {path}: {error}", at.line, at.column),
        None => format!("{path}: {error}"),
    };
    errors.iter().zip(places).map(one).collect()
}

/// When stats are flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// `stats_flush_interval`
    pub interval: Duration,
    /// `stats_flush_on_admin`
    pub on_admin: bool,
}

/// Reads `stats_flush`.
///
/// # Errors
/// The interval is out of range.
pub fn flush(b: &pb::Bootstrap) -> BuildResult<Flush> {
    let interval = match &b.stats_flush_interval {
        None => Duration::from_secs(5),
        Some(d) => duration(d)?,
    };
    let on_admin = matches!(b.stats_flush, Some(pb::bootstrap::StatsFlush::StatsFlushOnAdmin(true)));
    Ok(Flush { interval, on_admin })
}

fn duration(d: &prost_types::Duration) -> BuildResult<Duration> {
    match (u64::try_from(d.seconds), u32::try_from(d.nanos)) {
        (Ok(s), Ok(n)) => Ok(Duration::new(s, n)),
        _ => Err(BuildError(format!("Invalid duration: Expected positive duration: seconds: {}", d.seconds))),
    }
}
