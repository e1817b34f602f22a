//! Subsets: the hosts of a cluster by their metadata, made on main; and the choice of the one that a request asks for.

use super::pick::{Picked, Picker, Picking};
use super::set::{HostSet, Making};
use super::subset_config::{Criterion, Fallback, SelectorFallback, SubsetLb, criteria, merged};
use crate::upstream::host::Host;
use nuncio_core::info::StreamInfo;
use prost_types::Value;
use prost_types::value::Kind;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What a request asks for, sorted by name.
pub type Criteria<'a> = Cow<'a, [Criterion]>;

/// The subsets of a set of hosts.
#[derive(Debug, Default)]
pub struct Subsets {
    all: Vec<Subset>,
    by_criteria: HashMap<String, usize>,
    any: Option<usize>,
    default: Option<usize>,
}

/// Some hosts.
#[derive(Debug)]
enum Subset {
    Set(Box<HostSet>),
    /// `single_host_per_subset`
    Single(Arc<Host>),
}

impl Subsets {
    /// The subsets of these hosts.
    pub fn new(set: &HostSet, lb: &SubsetLb, m: &Making<'_>) -> Subsets {
        let mut parts: BTreeMap<String, (bool, Vec<Arc<Host>>)> = BTreeMap::new();
        let mut duplicates = 0;
        for h in &set.hosts {
            for s in &lb.selectors {
                for key in keys(h, &s.keys, lb.list_as_any) {
                    let (single, hosts) = parts.entry(key).or_insert_with(|| (s.single, vec![]));
                    let there = hosts.iter().any(|o| Arc::ptr_eq(o, h));
                    let priority = |h: &Host| h.priority();
                    if *single && hosts.iter().any(|o| priority(o) == priority(h)) {
                        duplicates += 1;
                    } else if !there {
                        hosts.push(h.clone());
                    }
                }
            }
        }
        lb.stats.lb_subsets_single_host_per_subset_duplicate().set(duplicates);
        let m = Making { lb: &lb.inner, ..*m };
        let part = |hosts| {
            let mut part = HostSet::part(hosts, set.levels.len(), &m);
            if lb.scale_locality_weight {
                scale(&mut part, set);
            }
            Subset::Set(Box::new(part))
        };
        let mut subsets = Subsets::default();
        for (key, (single, hosts)) in parts {
            subsets.by_criteria.insert(key, subsets.all.len());
            subsets.all.push(match (single, hosts.first()) {
                (true, Some(h)) => Subset::Single(h.clone()),
                _ => part(hosts),
            });
        }
        if lb.needs(&Fallback::Any) {
            subsets.any = Some(subsets.all.len());
            subsets.all.push(part(set.hosts.clone()));
        }
        if lb.needs(&Fallback::Default) {
            subsets.default = Some(subsets.all.len());
            let fits = |h: &&Arc<Host>| lb.default.iter().all(|c| has(h, c, lb.list_as_any));
            subsets.all.push(part(set.hosts.iter().filter(fits).cloned().collect()));
        }
        subsets
    }
    /// How many are there by metadata that are not in `old`, and how many of `old` are none any more.
    pub fn changes(&self, old: Option<&Subsets>) -> [u64; 2] {
        let missing = |these: Option<&Subsets>, those: Option<&Subsets>| {
            let known = |k: &String| those.is_some_and(|t| t.by_criteria.contains_key(k));
            these.map_or(0, |t| t.by_criteria.keys().filter(|k| !known(k)).count()) as u64
        };
        [missing(Some(self), old), missing(old, Some(self))]
    }
}

/// Localities weigh as much less as the subset has fewer hosts there.
fn scale(part: &mut HostSet, whole: &HostSet) {
    for (level, all) in part.levels.iter_mut().zip(&whole.levels) {
        for l in &mut level.localities {
            if let Some(w) = all.localities.iter().find(|w| w.name == l.name) {
                let scaled = f64::from(w.weight) * l.all.len() as f64 / w.all.len().max(1) as f64;
                l.weight = scaled.round() as u32;
            }
        }
    }
}

fn field<'a>(h: &'a Host, name: &str) -> Option<&'a Value> {
    h.info.metadata.0.get(NAMESPACE)?.fields.get(name)
}

/// The keys of the subsets a host belongs to: one, or with lists one for each combination of their values.
fn keys(h: &Host, names: &[String], list_as_any: bool) -> HashSet<String> {
    let mut keys = HashSet::from([String::new()]);
    for name in names {
        let Some(v) = field(h, name) else { return HashSet::new() };
        let values = match &v.kind {
            Some(Kind::ListValue(l)) if list_as_any => &l.values[..],
            _ => std::slice::from_ref(v),
        };
        let texts: Vec<_> = values.iter().map(|v| Criterion::new(name, v).text).collect();
        keys = keys.iter().flat_map(|k| texts.iter().map(move |t| format!("{k}{t}"))).collect();
    }
    if names.is_empty() { HashSet::new() } else { keys }
}

/// A host's metadata has what a criterion asks for.
pub fn has(h: &Host, c: &Criterion, list_as_any: bool) -> bool {
    let same = |v: &Value| Criterion::new(&c.name, v).text == c.text;
    match field(h, &c.name) {
        None => false,
        Some(Value { kind: Some(Kind::ListValue(l)) }) if list_as_any => l.values.iter().any(same),
        Some(v) => same(v),
    }
}

/// The host for a request.
pub fn pick(picker: &mut Picker, lb: &SubsetLb, p: &Picking<'_>) -> Option<Picked> {
    let subsets = p.set.subsets.as_deref()?;
    let wanted = p.cx.criteria();
    let list = wanted.as_deref().filter(|_| lb.fallback_list).and_then(|w| {
        let list = w.iter().find(|c| &*c.name == "fallback_list")?;
        match &list.value.kind {
            Some(Kind::ListValue(l)) => Some(&l.values[..]),
            _ => Some(&[][..]),
        }
    });
    let mut choice = Choice { picker, lb, p, subsets };
    let Some(list) = list else { return choice.of(wanted.as_deref()) };
    let rest: Vec<Criterion> = wanted
        .as_deref()
        .unwrap_or_default()
        .iter()
        .filter(|c| &*c.name != "fallback_list")
        .cloned()
        .collect();
    if list.is_empty() {
        return choice.of(Some(&rest));
    }
    list.iter().find_map(|v| {
        let more = match &v.kind {
            Some(Kind::StructValue(s)) => criteria(s),
            _ => vec![],
        };
        choice.of(Some(&merged(&rest, &more)))
    })
}

struct Choice<'a, 'b> {
    picker: &'a mut Picker,
    lb: &'a SubsetLb,
    p: &'a Picking<'b>,
    subsets: &'a Subsets,
}

impl Choice<'_, '_> {
    /// For a request that asks for this; `None`: it asks for nothing.
    fn of(&mut self, wanted: Option<&[Criterion]>) -> Option<Picked> {
        let mut wanted = wanted.map(Cow::Borrowed);
        if self.lb.allow_redundant_keys
            && let Some(w) = &wanted
            && let Some(fewer) = self.without_redundant(w)
        {
            wanted = Some(Cow::Owned(fewer));
        }
        if let Some(wanted) = wanted.as_deref() {
            let key: String = wanted.iter().map(|c| &*c.text).collect();
            if let Some(i) = self.subsets.by_criteria.get(&key) {
                self.p.plan.stats.lb_subsets_selected().inc();
                return self.from(Some(*i));
            }
            let names = || wanted.iter().map(|c| &*c.name);
            let selector = self.lb.selectors.iter().find(|s| names().eq(s.keys.iter().map(|k| &**k)));
            match selector.map(|s| &s.fallback) {
                None | Some(SelectorFallback::NotDefined) => {}
                Some(SelectorFallback::Policy(f)) => return self.from(self.fallback(f)),
                Some(SelectorFallback::Keys(keys)) => {
                    let fewer = wanted.iter().filter(|c| keys.iter().any(|k| **k == *c.name)).cloned();
                    return self.of(Some(&fewer.collect::<Vec<_>>()));
                }
            }
        }
        let fallback = self.fallback(&self.lb.fallback)?;
        if let Some(host) = self.from(Some(fallback)) {
            self.p.plan.stats.lb_subsets_fallback().inc();
            return Some(host);
        }
        let host = self.from(self.subsets.any.filter(|_| self.lb.panic_mode_any))?;
        self.p.plan.stats.lb_subsets_fallback_panic().inc();
        Some(host)
    }
    fn fallback(&self, f: &Fallback) -> Option<usize> {
        match f {
            Fallback::None => None,
            Fallback::Any => self.subsets.any,
            Fallback::Default => self.subsets.default,
        }
    }
    /// The criteria of the first selector of which all keys are asked for.
    fn without_redundant(&self, wanted: &[Criterion]) -> Option<Vec<Criterion>> {
        let asked = |k: &String| wanted.iter().any(|c| *c.name == **k);
        let first = self.lb.selectors.iter().find(|s| s.keys.iter().all(asked))?;
        Some(wanted.iter().filter(|c| first.keys.iter().any(|k| **k == *c.name)).cloned().collect())
    }
    /// A host of a subset.
    fn from(&mut self, subset: Option<usize>) -> Option<Picked> {
        let i = subset?;
        match self.subsets.all.get(i)? {
            Subset::Single(h) => Some(Picked::Host(h.clone())),
            Subset::Set(set) => {
                if self.picker.subsets.len() <= i {
                    self.picker.subsets.resize_with(i + 1, Picker::default);
                }
                let p = Picking { set, lb: &self.lb.inner, ..*self.p };
                match self.picker.subsets[i].pick(&p)? {
                    Picked::At(at) => set.hosts.get(at as usize).cloned().map(Picked::Host),
                    host => Some(host),
                }
            }
        }
    }
}

/// Routes and requests ask by metadata under this name.
pub const NAMESPACE: &str = "envoy.lb";

/// What a route and a stream's own metadata ask for together.
pub fn asked<'a>(route: Option<&'a [Criterion]>, info: &StreamInfo) -> Option<Criteria<'a>> {
    let own = info.metadata.borrow();
    match own.as_ref().and_then(|m| m.0.get(NAMESPACE)) {
        None => route.map(Cow::Borrowed),
        Some(own) => Some(Cow::Owned(merged(route.unwrap_or_default(), &criteria(own)))),
    }
}
