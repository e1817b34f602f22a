//! `/stats/prometheus`.
//!
//! Metrics are grouped by tag-extracted name, and a group has stats of many blocks. So the output is made in two
//! passes, both in slices: the first sorts (block, stat) pairs into groups, the second writes group by group.
//! Envoy orders names by their segments, so `cluster.a` comes before `cluster-x.a`, unlike in `/stats`.

use std::collections::{BTreeMap, HashMap, btree_map};
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
use crate::stats::tags::{Tags, is_plain};
use crate::stats::view::{Value, View, read_one};
use crate::stats::walk::Shown;

use super::text::push_number;

/// Stats by tag-extracted name.
#[derive(Default)]
struct Groups {
    /// Name to the number of its group. The dots of the key are NULs, which no name contains: then text order is the
    /// order by segments.
    numbers: BTreeMap<Box<str>, u32>,
    stats: Vec<Vec<Reference>>,
}

impl Groups {
    fn number(&mut self, key: &str) -> u32 {
        match self.numbers.get(key) {
            Some(number) => *number,
            None => {
                let number = self.stats.len() as u32;
                self.numbers.insert(key.into(), number);
                self.stats.push(Vec::new());
                number
            }
        }
    }
}

/// The groups of the plain stats of all blocks that have one schema and one prefix without its tags: per section and
/// stat the number plus one, or 0 while it is not known.
type Shapes = HashMap<(usize, Box<str>), [Vec<u32>; 3]>;

/// A stat: block number, and the number among the block's fixed stats of the section, or beyond those.
#[derive(Clone, Copy)]
struct Reference {
    block: u32,
    stat: u32,
}

struct Member {
    block: Arc<Block>,
    dynamic: [Vec<Entry>; 3],
    /// The labels of the block's plain stats, if these all have the same.
    labels: Option<Box<str>>,
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
    Write { kind: usize, groups: btree_map::IntoIter<Box<str>, u32>, current: Option<Group> },
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
    shapes: Shapes,
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
            shapes: Shapes::default(),
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
                        let Some((key, number)) = groups.next() else {
                            if kind < HISTOGRAM {
                                self.state =
                                    State::Write { kind: kind + 1, groups: self.take(kind + 1), current };
                            }
                            return true;
                        };
                        let stats = std::mem::take(&mut self.groups[kind].stats[number as usize]);
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

    fn take(&mut self, kind: usize) -> btree_map::IntoIter<Box<str>, u32> {
        std::mem::take(&mut self.groups[kind].numbers).into_iter()
    }

    /// Sorts the stats of some blocks into groups. Returns where to go on.
    fn scan(&mut self, query: &Query, resume: Option<Key>, book: &mut Book) -> Option<Key> {
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        let resume = self.store.0.blocks_after(false, resume.as_ref(), (16, 1024), |_| true, &mut blocks);
        let shown = Shown { used_only: query.used_only, counters: true, gauges: true };
        let settings = self.settings.clone();
        for block in blocks {
            let mut member = Member { labels: None, dynamic: Default::default(), block: block.clone() };
            let shape = settings.tags.is_uniform(&block.prefix).then(|| {
                let name = format!("{}x", block.prefix);
                let tags = settings.tags.extract(&name);
                let mut labels = String::new();
                push_tags(&tags, &mut labels);
                member.labels = Some(labels.into());
                let mut extracted = String::new();
                tags.push_extracted_name(&name, &mut extracted);
                extracted.pop();
                self.shapes.entry((block.schema.address(), extracted.into())).or_default()
            });
            let mut scan = Scan { query, settings: &settings, groups: &mut self.groups, shape };
            let number = self.members.len() as u32;
            for section in SECTIONS {
                if section == Section::Text && !query.text_readouts {
                    continue;
                }
                let Some(mut view) = View::load(block.clone(), section, query.used_only, book, &settings)
                else {
                    continue;
                };
                while let Some(entry) = view.current() {
                    let reading = view.read(entry, book);
                    if shown.takes(&reading) {
                        let stat = Reference { block: number, stat: view.number() };
                        scan.add(section, &block, entry, &reading.value, stat);
                    }
                    if !view.advance() {
                        break;
                    }
                }
                member.dynamic[section as usize] = view.into_dynamic();
            }
            self.members.push(member);
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
        let mut own = String::new();
        let labels = match &member.labels {
            Some(labels) if is_plain(&entry.name) => labels,
            _ => {
                let name = format!("{}{}", member.block.prefix, entry.name);
                push_tags(&self.settings.tags.extract(&name), &mut own);
                own.as_str()
            }
        };
        match read_one(&member.block, entry, book).value {
            Value::Counter(value) | Value::Gauge(value) => {
                write_series(metric, "", labels, None, out);
                push_number(out, value);
                out.push('\n');
            }
            Value::Text(text) => {
                write_series(metric, "", labels, Some(("text_value", &text)), out);
                out.push_str("0\n");
            }
            Value::Histogram(unit, flushed) => {
                let histogram = Histogram::new(unit, flushed.as_ref());
                if query.buckets == BucketMode::Summary {
                    write_summary(metric, labels, &histogram, out);
                } else {
                    let name = format!("{}{}", member.block.prefix, entry.name);
                    write_buckets(metric, labels, &histogram, self.settings.buckets(&name), out);
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
                let mut labels = String::new();
                for (name, value) in &host.tags {
                    push_label(&mut labels, name, value);
                }
                write_series(&metric, "", &labels, None, out);
                push_number(out, host.value);
                out.push('\n');
            }
        }
    }
}

/// The scan of one block.
struct Scan<'a> {
    query: &'a Query,
    settings: &'a Settings,
    groups: &'a mut [Groups; 4],
    shape: Option<&'a mut [Vec<u32>; 3]>,
}

impl Scan<'_> {
    fn add(&mut self, section: Section, block: &Block, entry: &Entry, value: &Value, stat: Reference) {
        let name = || format!("{}{}", block.prefix, entry.name);
        if self.query.filter.is_some() && !self.query.takes(&name()) {
            return;
        }
        let groups = &mut self.groups[kind_of(value)];
        let known = match &mut self.shape {
            Some(shape)
                if is_plain(&entry.name)
                    && (stat.stat as usize) < block.schema.layout().entries[section as usize].len() =>
            {
                let numbers = &mut shape[section as usize];
                if numbers.len() <= stat.stat as usize {
                    numbers.resize(stat.stat as usize + 1, 0);
                }
                Some(&mut numbers[stat.stat as usize])
            }
            _ => None,
        };
        let number = match known {
            Some(known) => {
                if *known == 0 {
                    *known = groups.number(&extracted_key(self.settings, &name())) + 1;
                }
                *known - 1
            }
            None => groups.number(&extracted_key(self.settings, &name())),
        };
        groups.stats[number as usize].push(stat);
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

fn extracted_key(settings: &Settings, name: &str) -> String {
    let mut extracted = String::with_capacity(name.len());
    settings.tags.extract(name).push_extracted_name(name, &mut extracted);
    extracted.replace('.', "\0")
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

/// `name{labels} `, with one more label if there is one.
fn write_series(metric: &str, suffix: &str, labels: &str, more: Option<(&str, &str)>, out: &mut String) {
    for part in [metric, suffix, "{", labels] {
        out.push_str(part);
    }
    if let Some((name, value)) = more {
        if !labels.is_empty() {
            out.push(',');
        }
        write_label(out, name, value);
    }
    out.push_str("} ");
}

fn push_tags(tags: &Tags<'_>, out: &mut String) {
    for (name, value) in &tags.tags {
        push_label(out, name, value);
    }
}

/// Appends a label to a list of labels.
fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    write_label(labels, name, value);
}

fn write_label(out: &mut String, name: &str, value: &str) {
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

fn write_summary(metric: &str, labels: &str, histogram: &Histogram<'_>, out: &mut String) {
    let values = histogram.quantiles(histogram.interval);
    for (quantile, value) in QUANTILES.iter().zip(values) {
        write_series(metric, "", labels, Some(("quantile", &quantile.to_string())), out);
        push_general(out, value, 32);
        out.push('\n');
    }
    let sum = histogram.sum(histogram.interval);
    write_totals(metric, labels, sum, histogram.interval.count(), out);
}

fn write_buckets(metric: &str, labels: &str, histogram: &Histogram<'_>, bounds: &[f64], out: &mut String) {
    let mut bucket = |bound: &str, count: u64| {
        write_series(metric, "_bucket", labels, Some(("le", bound)), out);
        push_number(out, count);
        out.push('\n');
    };
    let mut text = String::new();
    for (bound, count) in bounds.iter().zip(histogram.counts(histogram.cumulative, bounds, false)) {
        text.clear();
        push_general(&mut text, *bound, 32);
        bucket(&text, count);
    }
    let count = histogram.cumulative.count();
    bucket("+Inf", count);
    write_totals(metric, labels, histogram.sum(histogram.cumulative), count, out);
}

fn write_totals(metric: &str, labels: &str, sum: f64, count: u64, out: &mut String) {
    write_series(metric, "_sum", labels, None, out);
    push_general(out, sum, 32);
    out.push('\n');
    write_series(metric, "_count", labels, None, out);
    push_number(out, count);
    out.push('\n');
}
