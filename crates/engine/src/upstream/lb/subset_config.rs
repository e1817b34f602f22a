//! `LbSubsetConfig`, and the same as an extension (`Subset`); and the metadata by which requests choose.

use super::config::{self, Lb, Policy, PolicyCx};
use nuncio_api::envoy::config::cluster::v3 as old;
use nuncio_api::envoy::extensions::load_balancing_policies::subset::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::stats;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.load_balancing_policies.subset.v3.Subset",
        &[
            "fallback_policy",
            "default_subset",
            "subset_selectors",
            "allow_redundant_keys",
            "locality_weight_aware",
            "scale_locality_weight",
            "panic_mode_any",
            "list_as_any",
            "metadata_fallback_policy",
            "subset_lb_policy",
        ],
    ),
    Covered::new(
        "envoy.extensions.load_balancing_policies.subset.v3.Subset.LbSubsetSelector",
        &["keys", "single_host_per_subset", "fallback_policy", "fallback_keys_subset"],
    ),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.LbSubsetConfig",
        &[
            "fallback_policy",
            "default_subset",
            "subset_selectors",
            "locality_weight_aware",
            "scale_locality_weight",
            "panic_mode_any",
            "list_as_any",
            "metadata_fallback_policy",
        ],
    ),
    Covered::new(
        "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector",
        &["keys", "single_host_per_subset", "fallback_policy", "fallback_keys_subset"],
    ),
];

stats! {
    /// `cluster.<name>.`, of clusters with subsets
    pub struct SubsetStats {
        lb_subsets_single_host_per_subset_duplicate: SetGauge,
    }
}

/// Metadata that a host must have: a name and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    /// The field of `envoy.lb`.
    pub name: Arc<str>,
    /// What the host's must be equal to.
    pub value: Value,
    /// Both as one text, by which subsets are found.
    pub text: Arc<str>,
}

impl Criterion {
    /// Name and value.
    pub fn new(name: &str, value: &Value) -> Criterion {
        let mut text = format!("{}:{name}=", name.len());
        write_value(value, &mut text);
        Criterion { name: name.into(), value: value.clone(), text: text.into() }
    }
}

/// A value such that equal ones, and no others, have equal texts.
fn write_value(v: &Value, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match &v.kind {
        None | Some(Kind::NullValue(_)) => write!(out, "~;"),
        Some(Kind::NumberValue(n)) => write!(out, "n{:x};", n.to_bits()),
        Some(Kind::BoolValue(b)) => write!(out, "b{b};"),
        Some(Kind::StringValue(s)) => write!(out, "s{}:{s};", s.len()),
        Some(Kind::ListValue(l)) => {
            out.push('[');
            l.values.iter().for_each(|v| write_value(v, out));
            write!(out, "]")
        }
        Some(Kind::StructValue(s)) => {
            out.push('{');
            for (k, v) in &s.fields {
                let _ = write!(out, "{}:{k}=", k.len());
                write_value(v, out);
            }
            write!(out, "}}")
        }
    };
}

/// The criteria of a struct, sorted by name.
pub fn criteria(s: &Struct) -> Vec<Criterion> {
    s.fields.iter().map(|(k, v)| Criterion::new(k, v)).collect()
}

/// `base` with what `more` says in place of the same names, sorted by name.
pub fn merged(base: &[Criterion], more: &[Criterion]) -> Vec<Criterion> {
    let by_name: BTreeMap<&str, &Criterion> = base.iter().chain(more).map(|c| (&*c.name, c)).collect();
    by_name.into_values().cloned().collect()
}

/// Who gets a request whose subset does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Nobody.
    None,
    /// Any host.
    Any,
    /// `default_subset`
    Default,
}

/// What a selector says of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorFallback {
    /// Nothing: the policy as a whole decides.
    NotDefined,
    /// This.
    Policy(Fallback),
    /// Only these fields count.
    Keys(Vec<String>),
}

/// A selector: hosts with equal values of all these fields are a subset.
#[derive(Debug)]
pub struct Selector {
    /// The fields, sorted.
    pub keys: Vec<String>,
    /// `single_host_per_subset`
    pub single: bool,
    /// What if there is no such subset.
    pub fallback: SelectorFallback,
}

/// A policy that chooses among the hosts whose metadata a request names.
#[derive(Debug)]
pub struct SubsetLb {
    /// `fallback_policy`
    pub fallback: Fallback,
    /// `default_subset`
    pub default: Vec<Criterion>,
    /// `subset_selectors`
    pub selectors: Vec<Selector>,
    /// `panic_mode_any`
    pub panic_mode_any: bool,
    /// `list_as_any`
    pub list_as_any: bool,
    /// `allow_redundant_keys`
    pub allow_redundant_keys: bool,
    /// `metadata_fallback_policy: FALLBACK_LIST`
    pub fallback_list: bool,
    /// `locality_weight_aware` and `scale_locality_weight`
    pub scale_locality_weight: bool,
    /// How hosts of a subset are chosen.
    pub inner: Lb,
    /// `cluster.<name>.`
    pub stats: SubsetStats,
}

impl SubsetLb {
    /// Of the extension.
    ///
    /// # Errors
    /// Selectors that contradict themselves, or a policy of the subsets that is not known.
    pub fn new(c: &pb::Subset, cx: PolicyCx<'_>) -> BuildResult<SubsetLb> {
        let missing = |names: &str| {
            BuildError(format!("No supported load balancing policy for subset lb with names from {names}"))
        };
        let list = c.subset_lb_policy.clone().unwrap_or_default();
        SubsetLb::build(c, config::inner(&list, cx, missing)?, cx)
    }
    /// Of `Cluster.lb_subset_config`.
    ///
    /// # Errors
    /// Selectors that contradict themselves.
    pub fn of_cluster(
        c: &old::cluster::LbSubsetConfig,
        inner: Policy,
        cx: PolicyCx<'_>,
    ) -> BuildResult<SubsetLb> {
        // The enums are the same but for their packages.
        let new = pb::Subset {
            fallback_policy: c.fallback_policy,
            default_subset: c.default_subset.clone(),
            subset_selectors: c
                .subset_selectors
                .iter()
                .map(|s| pb::subset::LbSubsetSelector {
                    keys: s.keys.clone(),
                    single_host_per_subset: s.single_host_per_subset,
                    fallback_policy: s.fallback_policy,
                    fallback_keys_subset: s.fallback_keys_subset.clone(),
                })
                .collect(),
            locality_weight_aware: c.locality_weight_aware,
            scale_locality_weight: c.scale_locality_weight,
            panic_mode_any: c.panic_mode_any,
            list_as_any: c.list_as_any,
            metadata_fallback_policy: c.metadata_fallback_policy,
            ..Default::default()
        };
        SubsetLb::build(&new, Lb { policy: inner, node: cx.build.node.locality.clone() }, cx)
    }
    fn build(c: &pb::Subset, mut inner: Lb, cx: PolicyCx<'_>) -> BuildResult<SubsetLb> {
        use pb::subset::{LbSubsetFallbackPolicy as F, LbSubsetMetadataFallbackPolicy as M};
        if !c.locality_weight_aware {
            match &mut inner.policy {
                Policy::Spread(s) => s.locality.weighted = false,
                Policy::Hash(h) => h.locality_weighted = false,
                _ => {}
            }
        }
        Ok(SubsetLb {
            fallback: match c.fallback_policy() {
                F::NoFallback => Fallback::None,
                F::AnyEndpoint => Fallback::Any,
                F::DefaultSubset => Fallback::Default,
            },
            default: c.default_subset.as_ref().map(criteria).unwrap_or_default(),
            selectors: c.subset_selectors.iter().map(Selector::new).collect::<BuildResult<_>>()?,
            panic_mode_any: c.panic_mode_any,
            list_as_any: c.list_as_any,
            allow_redundant_keys: c.allow_redundant_keys,
            fallback_list: c.metadata_fallback_policy() == M::FallbackList,
            scale_locality_weight: c.locality_weight_aware && c.scale_locality_weight,
            inner,
            stats: SubsetStats::new(cx.scope),
        })
    }
    /// Subsets that are there whatever the metadata of the hosts: all of them, and the default one.
    pub fn needs(&self, fallback: &Fallback) -> bool {
        self.fallback == *fallback
            || self.selectors.iter().any(|s| s.fallback == SelectorFallback::Policy(fallback.clone()))
            || self.panic_mode_any && *fallback == Fallback::Any
    }
}

impl Selector {
    fn new(s: &pb::subset::LbSubsetSelector) -> BuildResult<Selector> {
        use pb::subset::lb_subset_selector::LbSubsetSelectorFallbackPolicy as F;
        let sorted = |keys: &[String]| {
            let mut keys = keys.to_vec();
            keys.sort();
            keys.dedup();
            keys
        };
        let (keys, reduced) = (sorted(&s.keys), sorted(&s.fallback_keys_subset));
        let by_keys = s.fallback_policy() == F::KeysSubset;
        if by_keys {
            // Only fewer of the selector's own keys make sense, and something must change.
            if reduced.is_empty() {
                return Err("fallback_keys_subset cannot be empty".into());
            }
            if !reduced.iter().all(|k| keys.contains(k)) {
                return Err("fallback_keys_subset must be a subset of selector keys".into());
            }
            if reduced == keys {
                return Err("fallback_keys_subset cannot be equal to keys".into());
            }
        } else if !reduced.is_empty() {
            return Err("fallback_keys_subset can be set only for KEYS_SUBSET fallback_policy".into());
        }
        let fallback = match s.fallback_policy() {
            F::NotDefined => SelectorFallback::NotDefined,
            F::NoFallback => SelectorFallback::Policy(Fallback::None),
            F::AnyEndpoint => SelectorFallback::Policy(Fallback::Any),
            F::DefaultSubset => SelectorFallback::Policy(Fallback::Default),
            F::KeysSubset => SelectorFallback::Keys(reduced),
        };
        Ok(Selector { keys, single: s.single_host_per_subset, fallback })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Value {
        Value { kind: Some(Kind::StringValue(s.into())) }
    }

    #[test]
    fn equal_values_have_equal_texts() {
        let number = |n| Value { kind: Some(Kind::NumberValue(n)) };
        let same = |a: &Value, b: &Value| Criterion::new("k", a).text == Criterion::new("k", b).text;
        assert!(same(&text("1"), &text("1")) && same(&number(1.0), &number(1.0)));
        assert!(!same(&text("1"), &number(1.0)) && !same(&text("1"), &text("1;")));
        assert_ne!(Criterion::new("a", &text("=")).text, Criterion::new("a=", &text("")).text);
    }

    #[test]
    fn later_criteria_replace_earlier_ones() {
        let c = |k: &str, v: &str| Criterion::new(k, &text(v));
        let m = merged(&[c("a", "1"), c("c", "1")], &[c("b", "2"), c("c", "2")]);
        assert_eq!(m, [c("a", "1"), c("b", "2"), c("c", "2")]);
    }
}
