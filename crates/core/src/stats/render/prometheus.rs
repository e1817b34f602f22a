//! `/stats/prometheus`.
//!
//! Metrics are grouped by tag-extracted name, and a group has stats of many blocks. So the output is made in two
//! passes, both in slices: the first sorts (block, stat) pairs into groups, the second writes group by group.
//! Envoy orders names by their segments, so `cluster.a` comes before `cluster-x.a`, unlike in `/stats`.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use super::{CHUNK_BYTES, CHUNK_EFFORT, Histogram, HostMetric};
use crate::stats::block::Block;
use crate::stats::book::Book;
use crate::stats::histogram::QUANTILES;
use crate::stats::number::push_general;
use crate::stats::query::{BucketMode, Query};
use crate::stats::schema::{Entry, SECTIONS, Section};
use crate::stats::settings::Settings;
use crate::stats::store::{Key, Store, lock};
use crate::stats::tags::Tags;
use crate::stats::view::{Value, View, read_one};
use crate::stats::walk::Shown;

use super::text::push_number;

/// Tag-extracted name to stats. The dots of the key are NULs, which no name contains: then text order is the order
/// by segments.
type Groups = BTreeMap<Box<str>, Vec<Reference>>;

/// A stat: block number, and the number among the block's fixed stats of the section, or beyond those.
#[derive(Clone, Copy)]
struct Reference {
    block: u32,
    stat: u32,
}

struct Member {
    block: Arc<Block>,
    dynamic: [Vec<Entry>; 3],
}

impl Member {
    fn entry(&self, section: Section, stat: u32) -> Option<&Entry> {
        let fixed = &self.block.schema.layout().entries[section as usize];
        let stat = stat as usize;
        fixed.get(stat).or_else(|| self.dynamic[section as usize].get(stat - fixed.len()))
    }
}

/// The kinds of metrics in the order they are written.
const COUNTER: usize = 0;
const GAUGE: usize = 1;
const TEXT: usize = 2;
const HISTOGRAM: usize = 3;

enum State {
    Scan { resume: Option<Key> },
    Write { kind: usize, groups: btree_map::IntoIter<Box<str>, Vec<Reference>>, current: Option<Group> },
    Hosts,
}

struct Group {
    /// The metric's name; `None` if it may not be shown.
    name: Option<String>,
    stats: std::vec::IntoIter<Reference>,
}

pub(super) struct Prometheus {
    store: Store,
    settings: Arc<Settings>,
    members: Vec<Member>,
    groups: [Groups; 4],
    hosts: Vec<HostMetric>,
    state: State,
}

impl Prometheus {
    pub(super) fn new(store: &Store, query: &Query, hosts: Vec<HostMetric>) -> Self {
        let state = if query.hidden_only { State::Hosts } else { State::Scan { resume: None } };
        Self {
            store: store.clone(),
            settings: store.settings(),
            members: Vec::new(),
            groups: Default::default(),
            hosts,
            state,
        }
    }

    pub(super) fn next_chunk(&mut self, query: &Query, out: &mut String) -> bool {
        let store = self.store.clone();
        let mut book = lock(&store.0.book);
        match std::mem::replace(&mut self.state, State::Hosts) {
            State::Scan { resume } => {
                self.state = match self.scan(query, resume, &mut book) {
                    Some(resume) => State::Scan { resume: Some(resume) },
                    None => State::Write { kind: COUNTER, groups: self.take(COUNTER), current: None },
                };
                true
            }
            State::Write { kind, mut groups, mut current } => {
                let end = out.len() + CHUNK_BYTES;
                let mut effort = 0;
                while out.len() < end && effort < CHUNK_EFFORT {
                    let Some(group) = &mut current else {
                        let Some((key, stats)) = groups.next() else {
                            if kind < HISTOGRAM {
                                self.state =
                                    State::Write { kind: kind + 1, groups: self.take(kind + 1), current };
                            }
                            return true;
                        };
                        effort += stats.len() / 4 + 1;
                        current = Some(self.begin_group(query, kind, &key, stats, out));
                        continue;
                    };
                    match (group.stats.next(), &group.name) {
                        (Some(stat), Some(name)) => {
                            self.write(query, kind, name, stat, &book, out);
                            effort += 1;
                        }
                        _ => current = None,
                    }
                }
                self.state = State::Write { kind, groups, current };
                true
            }
            State::Hosts => {
                for is_counter in [true, false] {
                    self.write_hosts(query, is_counter, out);
                }
                false
            }
        }
    }

    fn take(&mut self, kind: usize) -> btree_map::IntoIter<Box<str>, Vec<Reference>> {
        std::mem::take(&mut self.groups[kind]).into_iter()
    }

    /// Sorts the stats of some blocks into groups. Returns where to go on.
    fn scan(&mut self, query: &Query, resume: Option<Key>, book: &mut Book) -> Option<Key> {
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        let resume = self.store.0.blocks_after(resume.as_ref(), (16, 1024), |_| true, &mut blocks);
        let shown = Shown { used_only: query.used_only, counters: true, gauges: true };
        let settings = self.settings.clone();
        let (mut name, mut key) = (String::new(), String::new());
        for block in blocks {
            let number = self.members.len() as u32;
            let mut dynamic: [Vec<Entry>; 3] = Default::default();
            for section in SECTIONS {
                if section == Section::Text && !query.text_readouts {
                    continue;
                }
                let Some(mut view) = View::load(block.clone(), section, book, &settings) else { continue };
                if query.used_only && view.is_untouched() {
                    continue;
                }
                loop {
                    let Some(entry) = view.current() else { break };
                    let reading = view.read(entry, book);
                    if shown.takes(&reading) {
                        name.clear();
                        name.push_str(&block.prefix);
                        name.push_str(&entry.name);
                        if query.takes(&name) {
                            extracted_key(&settings, &name, &mut key);
                            let stat = Reference { block: number, stat: view.number() };
                            let groups = &mut self.groups[kind_of(&reading.value)];
                            match groups.get_mut(&*key) {
                                Some(group) => group.push(stat),
                                None => _ = groups.insert(key.as_str().into(), vec![stat]),
                            }
                        }
                    }
                    if !view.advance() {
                        break;
                    }
                }
                dynamic[section as usize] = view.into_dynamic();
            }
            self.members.push(Member { block, dynamic });
        }
        resume
    }

    /// Sorts a group and writes its `# TYPE` line.
    fn begin_group(
        &self,
        query: &Query,
        kind: usize,
        key: &str,
        mut stats: Vec<Reference>,
        out: &mut String,
    ) -> Group {
        let section = section_of(kind);
        let name = metric_name(&self.settings, &key.replace('\0', "."));
        let full = |stat: &Reference| {
            let member = &self.members[stat.block as usize];
            (&*member.block.prefix, member.entry(section, stat.stat).map_or("", |entry| &*entry.name))
        };
        stats.sort_by(|a, b| {
            let (a, b) = (full(a), full(b));
            segments(a).cmp(segments(b))
        });
        stats.dedup_by(|a, b| {
            let (a, b) = (full(a), full(b));
            segments(a).eq(segments(b))
        });
        if let Some(name) = &name {
            let kind = match kind {
                COUNTER => "counter",
                HISTOGRAM if query.buckets == BucketMode::Summary => "summary",
                HISTOGRAM => "histogram",
                _ => "gauge",
            };
            write_type(name, kind, out);
        }
        Group { name, stats: stats.into_iter() }
    }

    fn write(
        &self,
        query: &Query,
        kind: usize,
        metric: &str,
        stat: Reference,
        book: &Book,
        out: &mut String,
    ) {
        let member = &self.members[stat.block as usize];
        let Some(entry) = member.entry(section_of(kind), stat.stat) else { return };
        let name = format!("{}{}", member.block.prefix, entry.name);
        let tags = self.settings.tags.extract(&name);
        match read_one(&member.block, entry, book).value {
            Value::Counter(value) | Value::Gauge(value) => {
                write_series(metric, "", |out| push_tags(&tags, out), out);
                push_number(out, value);
                out.push('\n');
            }
            Value::Text(text) => {
                let labels = |out: &mut String| {
                    push_tags(&tags, out);
                    push_label(out, !tags.tags.is_empty(), "text_value", &text);
                };
                write_series(metric, "", labels, out);
                out.push_str("0\n");
            }
            Value::Histogram(unit, flushed) => {
                let histogram = Histogram::new(unit, flushed.as_ref());
                if query.buckets == BucketMode::Summary {
                    write_summary(metric, &tags, &histogram, out);
                } else {
                    write_buckets(metric, &tags, &histogram, self.settings.buckets(&name), out);
                }
            }
        }
    }

    /// The metrics of endpoints, grouped as stats are.
    fn write_hosts(&self, query: &Query, is_counter: bool, out: &mut String) {
        let mut groups: BTreeMap<&str, Vec<&HostMetric>> = BTreeMap::new();
        for host in self.hosts.iter().filter(|h| h.is_counter == is_counter && query.takes(&h.name)) {
            groups.entry(&host.tag_extracted_name).or_default().push(host);
        }
        for (name, mut hosts) in groups {
            let Some(metric) = metric_name(&self.settings, name) else { continue };
            write_type(&metric, if is_counter { "counter" } else { "gauge" }, out);
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            for host in hosts {
                let labels = |out: &mut String| {
                    for (i, (name, value)) in host.tags.iter().enumerate() {
                        push_label(out, i != 0, name, value);
                    }
                };
                write_series(&metric, "", labels, out);
                push_number(out, host.value);
                out.push('\n');
            }
        }
    }
}

fn kind_of(value: &Value) -> usize {
    match value {
        Value::Counter(_) => COUNTER,
        Value::Gauge(_) => GAUGE,
        Value::Text(_) => TEXT,
        Value::Histogram(..) => HISTOGRAM,
    }
}

fn section_of(kind: usize) -> Section {
    match kind {
        TEXT => Section::Text,
        HISTOGRAM => Section::Histogram,
        _ => Section::Numeric,
    }
}

/// The name in a form that sorts by segments: a dot is less than any other character.
fn segments(name: (&str, &str)) -> impl Iterator<Item = u8> {
    name.0.bytes().chain(name.1.bytes()).map(|c| if c == b'.' { 0 } else { c })
}

fn extracted_key(settings: &Settings, name: &str, key: &mut String) {
    let mut extracted = String::with_capacity(name.len());
    settings.tags.extract(name).push_extracted_name(name, &mut extracted);
    key.clear();
    key.extend(extracted.chars().map(|c| if c == '.' { '\0' } else { c }));
}

/// The metric's name, `envoy_…`; stats of a custom namespace have neither that nor the namespace, and are not shown
/// if what remains is no legal name.
fn metric_name(settings: &Settings, extracted: &str) -> Option<String> {
    if let Some((first, rest)) = extracted.split_once('.')
        && settings.custom_namespaces.iter().any(|namespace| namespace == first)
    {
        let legal = rest.bytes().next().is_some_and(|c| !c.is_ascii_digit());
        return legal.then(|| sanitized(rest));
    }
    Some(format!("envoy_{}", sanitized(extracted)))
}

fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn write_type(name: &str, kind: &str, out: &mut String) {
    for part in ["# TYPE ", name, " ", kind, "\n"] {
        out.push_str(part);
    }
}

/// `name{labels} `
fn write_series(metric: &str, suffix: &str, labels: impl FnOnce(&mut String), out: &mut String) {
    out.push_str(metric);
    out.push_str(suffix);
    out.push('{');
    labels(out);
    out.push_str("} ");
}

fn push_tags(tags: &Tags<'_>, out: &mut String) {
    for (i, (name, value)) in tags.tags.iter().enumerate() {
        push_label(out, i != 0, name, value);
    }
}

fn push_label(out: &mut String, comma: bool, name: &str, value: &str) {
    if comma {
        out.push(',');
    }
    out.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_summary(metric: &str, tags: &Tags<'_>, histogram: &Histogram<'_>, out: &mut String) {
    let values = histogram.quantiles(histogram.interval);
    for (quantile, value) in QUANTILES.iter().zip(values) {
        let labels = |out: &mut String| {
            push_tags(tags, out);
            push_label(out, !tags.tags.is_empty(), "quantile", &quantile.to_string());
        };
        write_series(metric, "", labels, out);
        push_general(out, value, 32);
        out.push('\n');
    }
    let sum = histogram.sum(histogram.interval);
    write_totals(metric, tags, sum, histogram.interval.count(), out);
}

fn write_buckets(metric: &str, tags: &Tags<'_>, histogram: &Histogram<'_>, bounds: &[f64], out: &mut String) {
    let mut bucket = |bound: &str, count: u64| {
        let labels = |out: &mut String| {
            push_tags(tags, out);
            push_label(out, !tags.tags.is_empty(), "le", bound);
        };
        write_series(metric, "_bucket", labels, out);
        push_number(out, count);
        out.push('\n');
    };
    for (bound, count) in bounds.iter().zip(histogram.counts(histogram.cumulative, bounds, false)) {
        let mut text = String::new();
        push_general(&mut text, *bound, 32);
        bucket(&text, count);
    }
    let count = histogram.cumulative.count();
    bucket("+Inf", count);
    write_totals(metric, tags, histogram.sum(histogram.cumulative), count, out);
}

fn write_totals(metric: &str, tags: &Tags<'_>, sum: f64, count: u64, out: &mut String) {
    write_series(metric, "_sum", |out| push_tags(tags, out), out);
    push_general(out, sum, 32);
    out.push('\n');
    write_series(metric, "_count", |out| push_tags(tags, out), out);
    push_number(out, count);
    out.push('\n');
}
