//! The query parameters of `/stats` and `/stats/prometheus`.

use super::settings::NameMatcher;

/// `format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line per stat.
    Text,
    /// One JSON object.
    Json,
    /// The text exposition format of Prometheus.
    Prometheus,
}

/// `type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeFilter {
    /// `All`
    All,
    /// `TextReadouts`
    TextReadouts,
    /// `Counters`
    Counters,
    /// `Gauges`
    Gauges,
    /// `Histograms`
    Histograms,
}

/// `histogram_buckets`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketMode {
    /// Not given: quantiles, or Prometheus' cumulative buckets.
    Unset,
    /// Quantiles (`summary`, `none`).
    Summary,
    /// Counts up to each bound.
    Cumulative,
    /// Counts between bounds.
    Disjoint,
    /// All buckets as they are kept.
    Detailed,
}

/// A parsed query.
#[derive(Clone)]
pub struct Query {
    /// How to write. `/stats/prometheus` is always [`Format::Prometheus`].
    pub format: Format,
    /// Which kinds of stats; Prometheus ignores it, as in Envoy.
    pub types: TypeFilter,
    /// Only stats that were written since the server started.
    pub used_only: bool,
    /// Text readouts too, as Prometheus gauges of value 0.
    pub text_readouts: bool,
    /// `filter`: a name is shown if this says so.
    pub filter: Option<NameMatcher>,
    /// `invert_filter`: a name is shown unless the filter matches.
    pub invert_filter: bool,
    /// How to write histograms.
    pub buckets: BucketMode,
    /// `hidden=only`: no stat is hidden, so nothing is shown.
    pub hidden_only: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            format: Format::Text,
            types: TypeFilter::All,
            used_only: false,
            text_readouts: false,
            filter: None,
            invert_filter: false,
            buckets: BucketMode::Unset,
            hidden_only: false,
        }
    }
}

const NATIVE: &str = "prometheusnative";

impl Query {
    /// Parses the query string of `/stats` (without `?`), or of `/stats/prometheus` if `prometheus` is set.
    /// `compile` makes a matcher of the `filter` expression (found anywhere in the name) or says what is wrong with
    /// it in RE2's words.
    ///
    /// # Errors
    /// The body of Envoy's 400 response.
    pub fn parse(
        query: &str,
        prometheus: bool,
        compile: impl FnOnce(&str) -> Result<NameMatcher, String>,
    ) -> Result<Self, String> {
        let pairs = Pairs::decode(query);
        let mut parsed = Self {
            used_only: pairs.first("usedonly").is_some(),
            text_readouts: pairs.first("text_readouts").is_some(),
            invert_filter: pairs.first("invert_filter").is_some(),
            ..Self::default()
        };
        if let Some(expression) = pairs.first_not_empty("filter") {
            let matcher = compile(expression).map_err(|error| format!("Invalid re2 regex: {error}"))?;
            parsed.filter = Some(matcher);
        } else if parsed.invert_filter {
            return Err("invert_filter can only be used if filter is also provided".into());
        }
        let buckets = pairs.first_not_empty("histogram_buckets");
        parsed.buckets = match buckets {
            None => BucketMode::Unset,
            Some("cumulative") => BucketMode::Cumulative,
            Some("disjoint") => BucketMode::Disjoint,
            Some("detailed") => BucketMode::Detailed,
            Some("summary" | "none" | NATIVE) => BucketMode::Summary,
            Some(_) => {
                let modes = "(cumulative|disjoint|detailed|summary|prometheusnative)";
                return Err(format!("usage: /stats?histogram_buckets={modes}\n"));
            }
        };
        parsed.types = match pairs.first_not_empty("type") {
            None | Some("All") => TypeFilter::All,
            Some("TextReadouts") => TypeFilter::TextReadouts,
            Some("Counters") => TypeFilter::Counters,
            Some("Gauges") => TypeFilter::Gauges,
            Some("Histograms") => TypeFilter::Histograms,
            Some(_) => return Err("invalid &type= param".into()),
        };
        parsed.hidden_only = match pairs.first_not_empty("hidden") {
            None | Some("include" | "exclude") => false,
            Some("only") => true,
            Some(_) => return Err("usage: /stats?hidden=(include|only|exclude)\n\n".into()),
        };
        parsed.format = match pairs.first_not_empty("format") {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some("prometheus") => Format::Prometheus,
            Some("html") => return Err(no_html("HTML")),
            Some("active-html") => return Err(no_html("Active HTML")),
            Some(_) => return Err("usage: /stats?format=(html|active-html|json|prometheus|text)\n\n".into()),
        };
        if prometheus {
            parsed.format = Format::Prometheus;
        }
        match (parsed.format, parsed.buckets) {
            (Format::Prometheus, _) if buckets == Some(NATIVE) => {
                Err("unsupported prometheusnative histogram type when not using protobuf exposition format"
                    .into())
            }
            (Format::Prometheus, BucketMode::Disjoint | BucketMode::Detailed) => {
                Err("unsupported prometheus histogram bucket mode".into())
            }
            (_, _) if buckets == Some(NATIVE) => {
                Err("Invalid histogram_buckets type for non prometheus stats type".into())
            }
            _ => Ok(parsed),
        }
    }

    /// Whether the filter lets `name` pass.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(name) != self.invert_filter)
    }
}

/// What Envoy answers when it was built without its HTML pages.
fn no_html(what: &str) -> String {
    format!("{what} output was disabled by building with --define=admin_html=disabled")
}

struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn decode(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(key), percent_decode(value))
                })
                .collect(),
        )
    }

    fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|pair| pair.0 == key).map(|pair| &*pair.1)
    }

    fn first_not_empty(&self, key: &str) -> Option<&str> {
        self.first(key).filter(|value| !value.is_empty())
    }
}

/// Decodes `%XX`; what is no such escape stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.filter(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit())) {
            Some(hex) => {
                out.push(u8::from_str_radix(hex, 16).unwrap_or(b'%'));
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn parse(query: &str) -> Result<Query, String> {
        Query::parse(query, false, |text| match text {
            "(" => Err("missing ): (".into()),
            _ => {
                let text = text.to_owned();
                Ok(Arc::new(move |name| name.contains(&text)))
            }
        })
    }

    fn error(query: &str) -> String {
        parse(query).err().expect("an error")
    }

    #[test]
    fn parameters() {
        let query =
            parse("usedonly&type=Counters&format=json&histogram_buckets=none&filter=a%2eb&invert_filter=")
                .expect("good");
        assert!(query.used_only && query.invert_filter && !query.text_readouts);
        assert_eq!(
            (query.types, query.format, query.buckets),
            (TypeFilter::Counters, Format::Json, BucketMode::Summary)
        );
        assert!(query.takes("xyz") && !query.takes("xa.bz"));
        // Empty parameters count as absent, and the first of several wins.
        let query =
            parse("type=&format=&filter=&histogram_buckets=&usedonly=false&type=Gauges").expect("good");
        assert!(query.used_only && query.filter.is_none());
        assert_eq!((query.types, query.buckets), (TypeFilter::All, BucketMode::Unset));
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
    }

    #[test]
    fn errors_are_envoys() {
        assert_eq!(error("filter=("), "Invalid re2 regex: missing ): (");
        assert_eq!(error("invert_filter"), "invert_filter can only be used if filter is also provided");
        assert_eq!(error("type=Bogus"), "invalid &type= param");
        assert_eq!(error("format=bogus"), "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n");
        assert_eq!(error("hidden=bogus"), "usage: /stats?hidden=(include|only|exclude)\n\n");
        assert_eq!(
            error("histogram_buckets=x"),
            "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n"
        );
        assert_eq!(
            error("histogram_buckets=prometheusnative"),
            "Invalid histogram_buckets type for non prometheus stats type"
        );
        assert_eq!(
            error("histogram_buckets=detailed&format=prometheus"),
            "unsupported prometheus histogram bucket mode"
        );
        let native =
            Query::parse("histogram_buckets=prometheusnative&format=json", true, |_| Err(String::new()));
        assert_eq!(
            native.err().expect("an error"),
            "unsupported prometheusnative histogram type when not using protobuf exposition format"
        );
        assert!(error("format=html").starts_with("HTML output was disabled"));
    }
}
