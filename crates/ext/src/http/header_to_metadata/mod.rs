use crate::config::root;
use nuncio_api::envoy::extensions::filters::http::header_to_metadata::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::registry::Docs;
use nuncio_core::stats::Counter;
use nuncio_core::{BuildResult, Exchange, Registry, StreamShared, stats};
use nuncio_wire::HeaderMap;
use prost_types::Struct;
use std::collections::BTreeMap;
use std::sync::Arc;

mod rule;

use rule::{Failure, Rule};

/// Its well-known name, and the name space of metadata for which none is configured.
pub const NAME: &str = "envoy.filters.http.header_to_metadata";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        &["request_rules", "response_rules", "stat_prefix"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.header_to_metadata.v3.Config.Rule",
        &["header", "cookie", "on_header_present", "on_header_missing", "remove"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.header_to_metadata.v3.Config.KeyValuePair",
        &["metadata_namespace", "key", "value", "regex_value_rewrite", "type", "encode"],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<HeaderToMetadata>(NAME, docs);
}

stats! {
    /// Below `http_filter_name.<stat_prefix>.`, when a prefix is configured.
    pub struct RuleStats {
        request_rules_processed: Counter,
        response_rules_processed: Counter,
        request_metadata_added: Counter,
        response_metadata_added: Counter,
        request_header_not_found: Counter,
        response_header_not_found: Counter,
        base64_decode_failed: Counter,
        header_value_too_long: Counter,
        regex_substitution_failed: Counter,
    }
}

/// The filter.
pub struct HeaderToMetadata(Arc<Rules>);

/// The rules of the filter, or of a route.
pub struct Rules {
    request: Vec<Rule>,
    response: Vec<Rule>,
    stats: Option<RuleStats>,
}

/// The counters of one direction.
struct Counters<'a> {
    processed: Counter<'a>,
    added: Counter<'a>,
    not_found: Counter<'a>,
    all: &'a RuleStats,
}

impl Rules {
    fn new(config: &pb::Config, cx: &BuildCx<'_>) -> BuildResult<Rules> {
        let list = |l: &[pb::config::Rule]| l.iter().map(Rule::new).collect::<BuildResult<Vec<_>>>();
        let prefix = &config.stat_prefix;
        Ok(Rules {
            request: list(&config.request_rules)?,
            response: list(&config.response_rules)?,
            stats: (!prefix.is_empty())
                .then(|| RuleStats::new(&root(cx.scope).scope("http_filter_name").scope(prefix))),
        })
    }
    fn request_counters(&self) -> Option<Counters<'_>> {
        self.stats.as_ref().map(|s| Counters {
            processed: s.request_rules_processed(),
            added: s.request_metadata_added(),
            not_found: s.request_header_not_found(),
            all: s,
        })
    }
    fn response_counters(&self) -> Option<Counters<'_>> {
        self.stats.as_ref().map(|s| Counters {
            processed: s.response_rules_processed(),
            added: s.response_metadata_added(),
            not_found: s.response_header_not_found(),
            all: s,
        })
    }
}

/// Runs rules over headers; the metadata is set when all have run.
fn run(rules: &[Rule], headers: &mut HeaderMap, sx: &StreamShared, stats: Option<Counters<'_>>) {
    let mut all: BTreeMap<&str, Struct> = BTreeMap::new();
    let count = |which: for<'a> fn(&'a Counters<'_>) -> Counter<'a>| {
        if let Some(s) = &stats {
            which(s).inc();
        }
    };
    for rule in rules {
        let found = rule.take(headers);
        count(|s| s.processed);
        let target = match (&found, &rule.present, &rule.missing) {
            (Some(_), Some(t), _) => t,
            (None, _, Some(t)) => {
                count(|s| s.not_found);
                t
            }
            _ => continue,
        };
        let (text, lost) = target.text(found);
        if lost {
            count(|s| s.all.regex_substitution_failed());
        }
        match target.value(text) {
            Ok(value) => {
                all.entry(&target.namespace).or_default().fields.insert(target.key.clone(), value);
                count(|s| s.added);
            }
            Err(Failure::Silent) => {}
            Err(Failure::TooLong) => count(|s| s.all.header_value_too_long()),
            Err(Failure::Base64) => count(|s| s.all.base64_decode_failed()),
        }
    }
    for (namespace, fields) in all {
        sx.info.set_metadata(namespace, fields);
    }
}

impl HttpFilter for HeaderToMetadata {
    type Config = pb::Config;
    type RouteConfig = pb::Config;
    type Route = Rules;
    type Stream = Option<Arc<Rules>>;

    fn new(config: pb::Config, cx: &BuildCx<'_>) -> BuildResult<HeaderToMetadata> {
        Rules::new(&config, cx).map(|r| HeaderToMetadata(Arc::new(r)))
    }
    fn route(config: pb::Config, cx: &BuildCx<'_>) -> BuildResult<Rules> {
        if config.request_rules.is_empty() && config.response_rules.is_empty() {
            return Err("header_to_metadata_filter: Per filter configs must at least specify either \
                        request or response rules"
                .into());
        }
        Rules::new(&config, cx)
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Option<Arc<Rules>>, ex: &'a mut Exchange) -> Step<'a> {
        let rules = st.get_or_insert_with(|| ex.route_config().unwrap_or_else(|| self.0.clone()));
        run(&rules.request, &mut ex.request.headers, &ex.sx, rules.request_counters());
        Step::Next
    }
    fn on_response<'a>(
        self: &'a Arc<Self>,
        st: &'a mut Option<Arc<Rules>>,
        ex: &'a mut Exchange,
    ) -> Step<'a> {
        let rules = st.get_or_insert_with(|| ex.route_config().unwrap_or_else(|| self.0.clone()));
        if let Some(response) = &mut ex.response {
            run(&rules.response, &mut response.headers, &ex.sx, rules.response_counters());
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;
