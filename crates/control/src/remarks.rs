//! What is right in a configuration but worth a word: unknown fields that are left out, what is deprecated and what is
//! work in progress. All of it goes to the log, some is counted.

use crate::options::Options;
use crate::server::stats::ServerStats;
use nuncio_api::error::{ConfigError, Severity};
use nuncio_core::hash64::xxh64;
use nuncio_core::log;
use std::cell::RefCell;
use std::collections::HashSet;

/// So many unknown fields of dynamic configuration are remembered, to mention and count each only once.
const MOST_SEEN: usize = 10_000;

/// Mentions and counts them.
pub struct Remarks {
    stats: ServerStats,
    /// Unless `--skip-deprecated-logs`.
    deprecated: bool,
    /// `--ignore-unknown-dynamic-fields`: nothing is said about dynamic configuration.
    silent: bool,
    seen: RefCell<HashSet<u64>>,
}

impl Remarks {
    /// As the command line wants it.
    pub fn new(stats: ServerStats, options: &Options) -> Remarks {
        Remarks {
            stats,
            deprecated: !options.skip_deprecated_logs,
            silent: options.ignore_unknown_dynamic_fields,
            seen: RefCell::default(),
        }
    }
    /// Counts those of the bootstrap; they were mentioned when it was read, before there were stats. As in Envoy, which
    /// stops looking at the first of them, all unknown fields of a text are one.
    pub fn of_bootstrap(&self, remarks: &[ConfigError]) {
        let unknown = remarks.iter().filter(|r| r.severity == Severity::Unknown);
        let texts: HashSet<&str> = unknown.map(|r| r.source.as_str()).collect();
        self.stats.static_unknown_fields().add(texts.len() as u64);
        let in_progress = remarks.iter().filter(|r| r.severity == Severity::InProgress).count();
        self.stats.wip_protos().add(in_progress as u64);
    }
    /// Mentions and counts what was found in a resource.
    pub fn of_resource(&self, remark: &ConfigError) {
        if self.silent {
            return;
        }
        match remark.severity {
            Severity::Unknown if !self.is_new(&remark.phrase) => return,
            Severity::Unknown => self.stats.dynamic_unknown_fields().inc(),
            Severity::Deprecated if !self.deprecated => return,
            Severity::InProgress => self.stats.wip_protos().inc(),
            Severity::Refused | Severity::Deprecated => {}
        }
        say(remark);
    }
    /// Mentions and counts what was left out of a file of resources: one, as of the bootstrap.
    pub fn of_file(&self, remarks: &[ConfigError]) {
        if let Some(first) = remarks.iter().find(|r| r.severity == Severity::Unknown) {
            self.of_resource(first);
        }
    }
    fn is_new(&self, phrase: &str) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.len() < MOST_SEEN && seen.insert(xxh64(phrase.as_bytes(), 0))
    }
}

/// Writes one to the log.
pub fn say(remark: &ConfigError) {
    if remark.severity == Severity::Unknown {
        let refusal = remark.phrase.strip_prefix("Protobuf message (");
        let what = refusal.and_then(|p| p.strip_suffix(") has unknown fields")).unwrap_or(&remark.phrase);
        let phrase = format!("Unknown field: {what}");
        let mut remark = remark.clone();
        remark.phrase = phrase;
        log!(Config, Warning, "{remark}");
    } else {
        log!(Misc, Warning, "{remark}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::envoy::config::cluster::v3::Cluster;
    use nuncio_api::load::{Format, UnknownFields, parse_message};
    use nuncio_core::stats::Store;

    fn remarks(yaml: &str, source: &str) -> Vec<ConfigError> {
        let loaded = parse_message::<Cluster>(yaml.as_bytes(), Format::Yaml, source, UnknownFields::Ignore);
        loaded.expect("right but for unknown fields").warnings
    }

    #[test]
    fn unknown_fields_of_a_text_are_one_and_what_is_in_progress_counts_each_time() {
        let stats = ServerStats::new(&Store::new().root().scope("server"));
        let r = Remarks::new(stats.clone(), &Options::default());
        let wip = "{name: c, http2_protocol_options: {use_oghttp2_codec: true}";
        r.of_bootstrap(&remarks(&format!("{wip}, nope: 1, none: 2}}"), "a.yaml"));
        let counts = || {
            let s = &stats;
            let unknown = (s.static_unknown_fields().value(), s.dynamic_unknown_fields().value());
            (unknown.0, unknown.1, s.wip_protos().value())
        };
        assert_eq!(counts(), (1, 0, 1));
        for _ in 0..2 {
            let again = remarks(&format!("{wip}, nope: 1, none: 2}}"), "b.yaml");
            r.of_file(&again);
            again.iter().filter(|r| r.severity == Severity::InProgress).for_each(|w| r.of_resource(w));
        }
        assert_eq!(counts(), (1, 1, 3), "an unknown field is new only once");
    }

    #[test]
    fn nothing_is_said_of_dynamic_configuration_whose_unknown_fields_are_ignored() {
        let stats = ServerStats::new(&Store::new().root().scope("server"));
        let options = Options { ignore_unknown_dynamic_fields: true, ..Options::default() };
        let r = Remarks::new(stats.clone(), &options);
        for w in remarks("{name: c, nope: 1, http2_protocol_options: {use_oghttp2_codec: true}}", "a.yaml") {
            r.of_resource(&w);
        }
        assert_eq!((stats.dynamic_unknown_fields().value(), stats.wip_protos().value()), (0, 0));
    }
}
