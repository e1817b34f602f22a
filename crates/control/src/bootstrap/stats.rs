//! `stats_config`: tags, which stats exist, buckets of histograms.

use crate::options::Options;
use nuncio_api::envoy::config::metrics::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::matchers::{ListStringMatcher, StringMatcher, re2};
use nuncio_core::stats::tags::{FindFn, Found, TagProducer, TagRule};
use nuncio_core::stats::{NameMatcher, Settings};
use std::sync::Arc;

/// Reads `stats_config` and `--stats-tag`.
///
/// # Errors
/// An expression or matcher is wrong.
pub fn settings(config: Option<&pb::StatsConfig>, options: &Options) -> BuildResult<Settings> {
    let none = pb::StatsConfig::default();
    let c = config.unwrap_or(&none);
    let rules = c.stats_tags.iter().map(rule).collect::<BuildResult<_>>()?;
    let defaults = c.use_all_default_tags.unwrap_or(true);
    let tags = TagProducer::new(defaults, &options.stats_tags, rules).map_err(BuildError)?;
    let accept = c.stats_matcher.as_ref().and_then(|m| m.stats_matcher.as_ref()).map(accept).transpose()?;
    let buckets = c.histogram_bucket_settings.iter().map(buckets).collect::<BuildResult<_>>()?;
    Ok(Settings { tags, accept: accept.flatten(), histogram_buckets: buckets, ..Settings::default() })
}

fn rule(t: &pb::TagSpecifier) -> BuildResult<TagRule> {
    use pb::tag_specifier::TagValue;
    let name = t.tag_name.clone();
    Ok(match &t.tag_value {
        None => TagRule::Default { name },
        Some(TagValue::FixedValue(value)) => TagRule::Fixed { name, value: value.clone() },
        Some(TagValue::Regex(r)) if r.is_empty() => TagRule::Default { name },
        Some(TagValue::Regex(r)) => TagRule::Regex { name, pattern: r.clone(), find: find(r)? },
    })
}

/// An expression whose first group is taken out of the name and whose second group, or else the first, is the value.
fn find(expression: &str) -> BuildResult<FindFn> {
    let translated = re2::translate(expression).map_err(BuildError)?;
    let r =
        regex::Regex::new(&translated).map_err(|_| BuildError(format!("Invalid regex '{expression}'")))?;
    Ok(Arc::new(move |name| {
        let found = r.captures(name)?;
        let remove = found.get(1).filter(|m| !m.is_empty())?.range();
        let value = found.get(2).filter(|m| !m.is_empty()).map_or(remove.clone(), |m| m.range());
        Some(Found { remove, value })
    }))
}

/// Whether a stat exists; `None` accepts all.
fn accept(m: &pb::stats_matcher::StatsMatcher) -> BuildResult<Option<NameMatcher>> {
    use pb::stats_matcher::StatsMatcher as M;
    Ok(match m {
        M::RejectAll(false) => None,
        M::RejectAll(true) => Some(Arc::new(|_: &str| false)),
        M::ExclusionList(l) => {
            let list = ListStringMatcher::new(l)?;
            Some(Arc::new(move |name: &str| !list.matches(name.as_bytes())))
        }
        M::InclusionList(l) => {
            let list = ListStringMatcher::new(l)?;
            Some(Arc::new(move |name: &str| list.matches(name.as_bytes())))
        }
    })
}

fn buckets(s: &pb::HistogramBucketSettings) -> BuildResult<(NameMatcher, Arc<[f64]>)> {
    let matcher = StringMatcher::new(&s.r#match.clone().unwrap_or_default())?;
    let mut bounds = s.buckets.clone();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    Ok((Arc::new(move |name: &str| matcher.matches(name.as_bytes())), bounds.into()))
}
