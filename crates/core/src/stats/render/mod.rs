//! Writes stats as Envoy's admin interface does.
//!
//! A [`Render`] is pulled: each call of [`Render::next_chunk`] appends some tens of kilobytes and then returns, so
//! that main can serve others in between and memory stays bounded however many stats there are.

mod json;
mod prometheus;
mod text;

use std::sync::Arc;

use super::histogram::{Distribution, QUANTILES, Unit};
use super::query::{Format, Query, TypeFilter};
use super::schema::{SECTIONS, Section};
use super::store::{Store, lock};
use super::view::Value;
use super::walk::{Shown, Step, Walk};
use prometheus::Prometheus;

/// Roughly how much a call appends.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many stats and blocks a call looks at: bounds calls that find little to write.
const CHUNK_EFFORT: usize = 8 * 1024;

/// A metric of an endpoint (`per_endpoint_stats`). These are not stats: they come after them, unsorted.
#[derive(Clone, Debug)]
pub struct HostMetric {
    /// `cluster.<name>.endpoint.<address>.<metric>`
    pub name: String,
    /// `cluster.endpoint.<metric>`
    pub tag_extracted_name: String,
    /// The fixed tags, then cluster, address and host name.
    pub tags: Vec<(String, String)>,
    /// A counter, or else a gauge.
    pub is_counter: bool,
    /// The value.
    pub value: u64,
}

/// An output under way.
pub struct Render {
    query: Query,
    state: State,
}

enum State {
    Lines(Box<Lines>),
    Prometheus(Box<Prometheus>),
}

struct Lines {
    store: Store,
    sections: Vec<Section>,
    walk: Option<Walk>,
    hosts: Vec<HostMetric>,
    writer: Writer,
    begun: bool,
}

enum Writer {
    Text,
    Json(json::Writer),
}

impl Render {
    /// Starts writing the stats that `query` asks for. `hosts` in Envoy's order: per cluster and endpoint the
    /// counters, then the gauges.
    pub fn new(store: &Store, query: Query, hosts: Vec<HostMetric>) -> Self {
        let hosts = if query.hidden_only { Vec::new() } else { hosts };
        let state = match query.format {
            Format::Prometheus => State::Prometheus(Box::new(Prometheus::new(store, &query, hosts))),
            Format::Text | Format::Json => {
                let mut sections: Vec<Section> = match query.types {
                    TypeFilter::All => SECTIONS.to_vec(),
                    TypeFilter::TextReadouts => vec![Section::Text],
                    TypeFilter::Counters | TypeFilter::Gauges => vec![Section::Numeric],
                    TypeFilter::Histograms => vec![Section::Histogram],
                };
                if query.hidden_only {
                    sections.clear();
                }
                sections.reverse();
                let writer = match query.format {
                    Format::Json => Writer::Json(json::Writer::default()),
                    _ => Writer::Text,
                };
                let store = store.clone();
                State::Lines(Box::new(Lines { store, sections, walk: None, hosts, writer, begun: false }))
            }
        };
        Self { query, state }
    }

    /// The `content-type` of the answer.
    pub fn content_type(&self) -> &'static str {
        match self.query.format {
            Format::Json => "application/json",
            _ => "text/plain; charset=UTF-8",
        }
    }

    /// Appends the next part to `out`. Returns whether there is more. A call may append nothing and still have more.
    pub fn next_chunk(&mut self, out: &mut String) -> bool {
        match &mut self.state {
            State::Lines(lines) => lines.next_chunk(&self.query, out),
            State::Prometheus(prometheus) => prometheus.next_chunk(&self.query, out),
        }
    }

    /// All of it at once, for tests and small stores.
    pub fn into_string(mut self) -> String {
        let mut out = String::new();
        while self.next_chunk(&mut out) {}
        out
    }
}

impl Lines {
    fn next_chunk(&mut self, query: &Query, out: &mut String) -> bool {
        if !self.begun {
            self.begun = true;
            self.writer.begin(out);
        }
        let end = out.len() + CHUNK_BYTES;
        let store = self.store.clone();
        let mut book = lock(&store.0.book);
        let mut limit = CHUNK_EFFORT;
        loop {
            let Some(section) = self.sections.last().copied() else {
                self.writer.end(query, out);
                return false;
            };
            let walk = self.walk.get_or_insert_with(|| {
                let shown = Shown {
                    used_only: query.used_only,
                    counters: query.types != TypeFilter::Gauges,
                    gauges: query.types != TypeFilter::Counters,
                };
                Walk::new(store.0.clone(), section, shown)
            });
            match walk.next(&mut book, limit) {
                Step::Stat(reading) => {
                    if query.takes(&walk.name) {
                        let bounds = walk.settings().clone();
                        self.writer.stat(query, &walk.name, &reading.value, |name| bounds.buckets(name), out);
                    }
                    if out.len() >= end {
                        walk.effort = 0;
                        return true;
                    }
                }
                Step::Pause => {
                    walk.effort = 0;
                    return true;
                }
                Step::End => {
                    limit = limit.saturating_sub(walk.effort).max(1);
                    self.walk = None;
                    self.sections.pop();
                    if section == Section::Numeric {
                        self.write_hosts(query, out);
                    }
                }
            }
        }
    }

    fn write_hosts(&mut self, query: &Query, out: &mut String) {
        for host in std::mem::take(&mut self.hosts) {
            let wanted = match query.types {
                TypeFilter::All => true,
                TypeFilter::Counters => host.is_counter,
                TypeFilter::Gauges => !host.is_counter,
                _ => false,
            };
            if wanted && query.takes(&host.name) {
                self.writer.number(&host.name, host.value, out);
            }
        }
    }
}

impl Writer {
    fn begin(&mut self, out: &mut String) {
        if let Writer::Json(json) = self {
            json.begin(out);
        }
    }

    fn number(&mut self, name: &str, value: u64, out: &mut String) {
        match self {
            Writer::Text => text::number(name, value, out),
            Writer::Json(json) => json.number(name, value, out),
        }
    }

    fn stat<'a>(
        &mut self,
        query: &Query,
        name: &str,
        value: &Value,
        bounds: impl Fn(&str) -> &'a [f64],
        out: &mut String,
    ) {
        match (self, value) {
            (this, Value::Counter(value) | Value::Gauge(value)) => this.number(name, *value, out),
            (Writer::Text, Value::Text(value)) => text::string(name, value, out),
            (Writer::Json(json), Value::Text(value)) => json.string(name, value, out),
            (this, Value::Histogram(unit, flushed)) => {
                let histogram = Histogram::new(*unit, flushed.as_ref());
                match this {
                    Writer::Text => text::histogram(query.buckets, name, &histogram, bounds(name), out),
                    Writer::Json(json) => json.histogram(query.buckets, name, &histogram, bounds(name), out),
                }
            }
        }
    }

    fn end(&mut self, query: &Query, out: &mut String) {
        if let Writer::Json(json) = self {
            json.end(query.buckets, out);
        }
    }
}

/// A histogram as the outputs see it.
struct Histogram<'a> {
    used: bool,
    scale: f64,
    interval: &'a Distribution,
    cumulative: &'a Distribution,
}

static EMPTY: Distribution = Distribution::new();

impl<'a> Histogram<'a> {
    fn new(unit: Unit, flushed: Option<&'a Arc<super::book::Flushed>>) -> Self {
        Self {
            used: flushed.is_some(),
            scale: unit.scale(),
            interval: flushed.map_or(&EMPTY, |f| &f.interval),
            cumulative: flushed.map_or(&EMPTY, |f| &f.cumulative),
        }
    }

    fn quantiles(&self, of: &Distribution) -> [f64; QUANTILES.len()] {
        of.quantiles().map(|value| if self.scale == 1.0 { value } else { value / self.scale })
    }

    fn sum(&self, of: &Distribution) -> f64 {
        of.approximate_sum() / self.scale
    }

    /// Counts up to each bound, or, if `disjoint`, above the bound before it.
    fn counts<'b>(
        &self,
        of: &'b Distribution,
        bounds: &'b [f64],
        disjoint: bool,
    ) -> impl Iterator<Item = u64> + 'b {
        let scale = self.scale;
        let mut before = 0;
        bounds.iter().map(move |bound| {
            let upto = of.count_below(bound * scale);
            let count = upto - before;
            if disjoint {
                before = upto;
            }
            count
        })
    }
}
