//! Tags: the variable parts of a stat name, taken out of it.
//!
//! `cluster.foo.upstream_rq_200` has the tags `envoy.response_code=200` and `envoy.cluster_name=foo`, and
//! `cluster.upstream_rq` as its tag-extracted name. Prometheus and the tagging sinks need them; they are computed
//! when somebody reads and stored nowhere.
//!
//! The order of tags is Envoy's: extractors that may apply to any name come first, then those for the name's first
//! segment, each in the order of their registration (defaults, `--stats-tag`, `stats_tags`). Every extractor looks at
//! the full name, and all removed parts go at the end.

mod builtin;
mod tokens;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use tokens::Pattern;

/// What an extractor found in a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The part to remove, with the dot that becomes superfluous.
    pub remove: Range<usize>,
    /// The value of the tag.
    pub value: Range<usize>,
}

/// Applies a `stats_tags` regular expression to a name: `remove` is the first group, `value` the second, or the
/// first if there is no second or it is empty. `None` without a match, or if the first group is empty.
pub type FindFn = Arc<dyn Fn(&str) -> Option<Found> + Send + Sync>;

/// One entry of `stats_config.stats_tags`.
#[derive(Clone)]
pub enum TagRule {
    /// Only a name: the default extractors of that name.
    Default {
        /// `tag_name`
        name: String,
    },
    /// `regex`
    Regex {
        /// `tag_name`
        name: String,
        /// The expression as configured.
        pattern: String,
        /// The compiled expression.
        find: FindFn,
    },
    /// `fixed_value`, or `--stats-tag`
    Fixed {
        /// `tag_name`
        name: String,
        /// `fixed_value`
        value: String,
    },
}

#[derive(Clone)]
enum Finder {
    Tokens(Pattern),
    Builtin(fn(&Name<'_>) -> Option<Found>),
    Custom(FindFn),
    Fixed(Arc<str>),
}

#[derive(Clone)]
struct Extractor {
    name: Arc<str>,
    finder: Finder,
    /// Another extractor has the same name: only the first of them that matches counts.
    shares_name: bool,
}

/// A name and its segments.
struct Name<'a> {
    text: &'a str,
    tokens: SmallVec<[&'a str; 12]>,
}

impl<'a> Name<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, tokens: text.split('.').collect() }
    }
}

/// The tags of one name.
#[derive(Debug, Default)]
pub struct Tags<'a> {
    /// Name and value, in Envoy's order.
    pub tags: SmallVec<[(&'a str, &'a str); 6]>,
    removed: SmallVec<[Range<usize>; 6]>,
}

impl Tags<'_> {
    /// Appends `name`, from which these tags were extracted, without the removed parts.
    pub fn push_extracted_name(&self, name: &str, out: &mut String) {
        let mut at = 0;
        for range in &self.removed {
            if range.end > at {
                out.push_str(&name[at..range.start.max(at)]);
                at = range.end;
            }
        }
        out.push_str(&name[at..]);
    }
}

/// Finds the tags of stat names.
#[derive(Clone)]
pub struct TagProducer {
    any: Vec<Extractor>,
    by_first: HashMap<Box<str>, Vec<Extractor>>,
    fixed: Vec<(String, String)>,
    /// There are expressions from the configuration.
    custom: bool,
}

impl Default for TagProducer {
    /// Envoy's default tags.
    fn default() -> Self {
        static DEFAULT: OnceLock<TagProducer> = OnceLock::new();
        DEFAULT
            .get_or_init(|| {
                let mut producer = TagProducer::empty();
                builtin::all().for_each(|(name, prefix, finder)| producer.add(name, prefix, finder));
                producer
            })
            .clone()
    }
}

impl TagProducer {
    fn empty() -> Self {
        Self { any: Vec::new(), by_first: HashMap::new(), fixed: Vec::new(), custom: false }
    }

    /// The tags of `stats_config`: `use_all_default_tags`, then `cli` (`--stats-tag NAME:VALUE`), then `rules`
    /// (`stats_tags`). The error is Envoy's text.
    pub fn new(
        use_all_default_tags: bool,
        cli: &[(String, String)],
        rules: Vec<TagRule>,
    ) -> Result<Self, String> {
        let mut producer = if use_all_default_tags { Self::default() } else { Self::empty() };
        for (name, value) in cli {
            producer.add_fixed(name, value);
        }
        for rule in rules {
            match rule {
                TagRule::Fixed { name, value } => producer.add_fixed(&name, &value),
                TagRule::Regex { name, .. } if name.is_empty() => {
                    return Err("tag_name cannot be empty".into());
                }
                TagRule::Regex { name, pattern, find } => {
                    producer.add(&name, regex_prefix(&pattern), Finder::Custom(find));
                    producer.custom = true;
                }
                TagRule::Default { name } => {
                    let mut found = false;
                    for (_, prefix, finder) in builtin::all().filter(|(known, ..)| *known == name) {
                        producer.add(&name, prefix, finder);
                        found = true;
                    }
                    if !found {
                        return Err(format!(
                            "No regex specified for tag specifier and no default regex for name: '{name}'"
                        ));
                    }
                }
            }
        }
        Ok(producer)
    }

    fn add_fixed(&mut self, name: &str, value: &str) {
        self.add(name, "", Finder::Fixed(value.into()));
        self.fixed.push((name.into(), value.into()));
    }

    fn add(&mut self, name: &str, prefix: &str, finder: Finder) {
        let mut shares_name = false;
        for known in self.any.iter_mut().chain(self.by_first.values_mut().flatten()) {
            if &*known.name == name {
                known.shares_name = true;
                shares_name = true;
            }
        }
        let extractor = Extractor { name: name.into(), finder, shares_name };
        match prefix {
            "" => self.any.push(extractor),
            _ => self.by_first.entry(prefix.into()).or_default().push(extractor),
        }
    }

    /// The tags with fixed values, for metrics that are not stats (per-endpoint ones).
    pub fn fixed(&self) -> &[(String, String)] {
        &self.fixed
    }

    /// Whether the tags of `prefix + last` are the same for all [plain](is_plain) last segments: then a reader may
    /// extract them once per group. `prefix` ends with a dot or is empty.
    ///
    /// So it is with the default extractors, which look at the last segment only behind certain others, and for
    /// what is not plain. Expressions of the configuration may look at anything.
    pub(super) fn is_uniform(&self, prefix: &str) -> bool {
        const VALUES_FOLLOW: [&str; 3] = [".ssl.ciphers.", ".ssl.curves.", ".ssl.sigalgs."];
        const VALUES_WITHIN: [&str; 2] = [".ssl.versions.", ".dynamodb."];
        !self.custom
            && !VALUES_FOLLOW.iter().any(|end| prefix.ends_with(end))
            && !VALUES_WITHIN.iter().any(|part| prefix.contains(part))
    }

    /// The tags of `name`.
    pub fn extract<'a>(&'a self, name: &'a str) -> Tags<'a> {
        let parsed = Name::new(name);
        let mut tags = Tags::default();
        let first = if parsed.tokens.len() > 1 { self.by_first.get(parsed.tokens[0]) } else { None };
        for extractor in self.any.iter().chain(first.into_iter().flatten()) {
            extractor.apply(&parsed, &mut tags);
        }
        tags.removed.sort_unstable_by_key(|range| range.start);
        tags
    }
}

impl Extractor {
    #[inline]
    fn apply<'a>(&'a self, name: &Name<'a>, tags: &mut Tags<'a>) {
        if self.shares_name && tags.tags.iter().any(|tag| tag.0 == &*self.name) {
            return;
        }
        let found = match &self.finder {
            Finder::Fixed(value) => return tags.tags.push((&self.name, value)),
            Finder::Tokens(pattern) => pattern.find(name),
            Finder::Builtin(find) => find(name),
            Finder::Custom(find) => find(name.text).filter(|found| !found.remove.is_empty()),
        };
        // A range that does not fit the name can only come from a custom expression: taken as no match.
        if let Some(found) = found
            && let Some(value) = name.text.get(found.value)
            && name.text.get(found.remove.clone()).is_some()
        {
            tags.tags.push((&self.name, value));
            tags.removed.push(found.remove);
        }
    }
}

/// Whether `last`, the last segment of a name, is none that default extractors look into: letters, digits and `_`, no
/// response code, no verdict of an RBAC policy.
pub(super) fn is_plain(last: &str) -> bool {
    let is_code = last.contains("_rq_") && last.ends_with(|c: char| c == 'x' || c.is_ascii_digit());
    !last.is_empty()
        && !is_code
        && !builtin::VERDICTS.contains(&last)
        && last.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// The first segment that a name must have to match `pattern`; empty if any may do. A segment counts only when the
/// expression starts with `^`, letters, digits or `_`, and then a literal dot or the end.
fn regex_prefix(pattern: &str) -> &str {
    let Some(rest) = pattern.strip_prefix('^') else { return "" };
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let complete = match after {
        "$" => true,
        "" => false,
        // A lone last character other than `$` is no complete `\.`.
        _ => after.len() > 1 && (after.starts_with(r"\.") || after.starts_with(r"(?=\.)")),
    };
    if complete { word } else { "" }
}

impl fmt::Debug for TagProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.any.len() + self.by_first.values().map(Vec::len).sum::<usize>();
        write!(f, "TagProducer({count} extractors)")
    }
}

#[cfg(test)]
mod tests;
