//! The buckets of one configuration, and which of them a request must take tokens from.

use crate::config::millis;
use crate::token_bucket::TokenBucket;
use nuncio_api::envoy::extensions::common::ratelimit::v3::LocalRateLimitDescriptor;
use nuncio_api::envoy::extensions::filters::http::local_ratelimit::v3 as pb;
use nuncio_api::envoy::r#type::v3::TokenBucket as PbBucket;
use nuncio_core::rate_limit::{Descriptor, Entry};
use nuncio_core::{BuildError, BuildResult};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// What a bucket is made from; connections and dynamic descriptors make theirs when they come.
#[derive(Clone, Copy)]
struct Rate {
    max: u64,
    per_second: f64,
}

impl Rate {
    fn new(b: &PbBucket, interval: Duration) -> Rate {
        let per_fill = b.tokens_per_fill.unwrap_or(1);
        Rate { max: u64::from(b.max_tokens), per_second: f64::from(per_fill) / interval.as_secs_f64() }
    }
    fn bucket(self) -> Arc<TokenBucket> {
        Arc::new(TokenBucket::new(self.max, self.per_second))
    }
}

/// The rates of one configuration.
pub struct Rates {
    default: Option<Rate>,
    fixed: Vec<(Vec<Entry>, Rate, bool)>,
    wild: Vec<(Vec<Entry>, Rate, bool)>,
    always_default: bool,
    max_dynamic: usize,
}

/// Envoy's shortest interval.
const SHORTEST: Duration = Duration::from_millis(50);

impl Rates {
    /// From configuration.
    ///
    /// # Errors
    /// An interval that is too short, a descriptor that occurs twice.
    pub fn new(c: &pb::LocalRateLimit) -> BuildResult<Rates> {
        let default = match &c.token_bucket {
            None => None,
            Some(b) => match millis(b.fill_interval.as_ref()).unwrap_or_default() {
                Duration::ZERO => None,
                short if short < SHORTEST => {
                    return Err("local rate limit token bucket fill timer must be >= 50ms".into());
                }
                interval => Some(Rate::new(b, interval)),
            },
        };
        let mut rates = Rates {
            default,
            fixed: vec![],
            wild: vec![],
            always_default: c.always_consume_default_token_bucket.unwrap_or(true),
            max_dynamic: c.max_dynamic_descriptors.unwrap_or(20) as usize,
        };
        for d in &c.descriptors {
            rates.add(d)?;
        }
        Ok(rates)
    }
    fn add(&mut self, d: &LocalRateLimitDescriptor) -> BuildResult<()> {
        let entries: Vec<Entry> = d.entries.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
        let bucket = d.token_bucket.as_ref().ok_or("field: \"token_bucket\", reason: is required")?;
        let interval = millis(bucket.fill_interval.as_ref()).unwrap_or_default();
        if interval < SHORTEST {
            return Err("local rate limit descriptor token bucket fill timer must be >= 50ms".into());
        }
        // An empty value stands for any.
        let list = if entries.iter().any(|e| e.1.is_empty()) { &mut self.wild } else { &mut self.fixed };
        if list.iter().any(|l| l.0 == entries) {
            let text: Vec<_> = entries.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let text = text.join(", ");
            return Err(BuildError(format!("duplicate descriptor in the local rate descriptor: {text}")));
        }
        list.push((entries, Rate::new(bucket, interval), d.shadow_mode));
        Ok(())
    }
    /// There is something that a descriptor of a request could match.
    pub fn have_descriptors(&self) -> bool {
        !self.fixed.is_empty() || !self.wild.is_empty()
    }
    /// Full buckets.
    pub fn limiter(&self) -> Limiter {
        let fixed = self.fixed.iter().map(|(e, r, shadow)| (e.clone(), (r.bucket(), *shadow)));
        let wild = self.wild.iter().map(|(pattern, rate, shadow)| Wild {
            pattern: pattern.clone(),
            rate: *rate,
            shadow: *shadow,
            max: self.max_dynamic,
            seen: Default::default(),
        });
        Limiter {
            default: self.default.map(Rate::bucket),
            fixed: fixed.collect(),
            wild: wild.collect(),
            always_default: self.always_default,
        }
    }
}

/// The buckets.
pub struct Limiter {
    default: Option<Arc<TokenBucket>>,
    fixed: HashMap<Vec<Entry>, (Arc<TokenBucket>, bool)>,
    wild: Vec<Wild>,
    always_default: bool,
}

/// A descriptor with values that stand for any: a bucket for each combination that comes, as many as are kept.
struct Wild {
    pattern: Vec<Entry>,
    rate: Rate,
    shadow: bool,
    max: usize,
    #[expect(
        clippy::disallowed_types,
        reason = "which combinations there are is a matter of all workers; it is held for one look-up, and by nobody \
                  without such descriptors"
    )]
    seen: std::sync::Mutex<Seen>,
}

/// Buckets by their entries, and the order in which they were used.
#[derive(Default)]
struct Seen {
    buckets: HashMap<Vec<Entry>, (Arc<TokenBucket>, u64)>,
    order: BTreeMap<u64, Vec<Entry>>,
    turn: u64,
}

impl Wild {
    fn matches(&self, entries: &[Entry]) -> bool {
        let one =
            |(wanted, got): (&Entry, &Entry)| wanted.0 == got.0 && (wanted.1.is_empty() || wanted.1 == got.1);
        self.pattern.len() == entries.len() && self.pattern.iter().zip(entries).all(one)
    }
    fn bucket(&self, entries: &[Entry]) -> Arc<TokenBucket> {
        // Nothing that panics runs while it is held; if something did, the tables are whole enough to go on.
        let mut seen = self.seen.lock().unwrap_or_else(|e| e.into_inner());
        let seen = &mut *seen;
        seen.turn += 1;
        if let Some((bucket, used)) = seen.buckets.get_mut(entries) {
            if let Some(key) = seen.order.remove(used) {
                seen.order.insert(seen.turn, key);
            }
            *used = seen.turn;
            return bucket.clone();
        }
        let bucket = self.rate.bucket();
        seen.buckets.insert(entries.to_vec(), (bucket.clone(), seen.turn));
        seen.order.insert(seen.turn, entries.to_vec());
        if seen.buckets.len() > self.max
            && let Some((_, oldest)) = seen.order.pop_first()
        {
            seen.buckets.remove(&oldest);
        }
        bucket
    }
}

/// What is said of a request.
pub struct Verdict {
    /// It may pass.
    pub allowed: bool,
    /// A bucket that only watches would have refused it.
    pub shadow: bool,
    /// The bucket that response headers speak of.
    pub bucket: Option<Arc<TokenBucket>>,
}

impl Limiter {
    fn find(&self, d: &Descriptor) -> Option<(Arc<TokenBucket>, bool)> {
        self.fixed.get(&d.entries).cloned().or_else(|| {
            let wild = self.wild.iter().find(|w| w.matches(&d.entries))?;
            Some((wild.bucket(&d.entries), wild.shadow))
        })
    }
    /// Takes tokens for a request: from the buckets of its descriptors, the slowest first, then from the default one.
    pub fn take(&self, descriptors: &[Descriptor]) -> Verdict {
        let mut matched: SmallVec<[_; 4]> = descriptors
            .iter()
            .filter_map(|d| self.find(d).map(|(b, shadow)| (b, shadow, d.hits.unwrap_or(1))))
            .collect();
        matched.sort_by(|a, b| a.0.rate().total_cmp(&b.0.rate()));
        let mut shadow = false;
        for (bucket, watches, hits) in &matched {
            if !bucket.take(*hits) {
                if !watches {
                    return Verdict { allowed: false, shadow, bucket: Some(bucket.clone()) };
                }
                shadow = true;
            }
        }
        let first = matched.first().map(|m| m.0.clone());
        if matched.is_empty() || self.always_default {
            let Some(default) = &self.default else {
                return Verdict { allowed: true, shadow, bucket: first };
            };
            if !default.take(1) {
                return Verdict { allowed: false, shadow, bucket: Some(default.clone()) };
            }
            return Verdict { allowed: true, shadow, bucket: first.or_else(|| Some(default.clone())) };
        }
        Verdict { allowed: true, shadow, bucket: first }
    }
}
