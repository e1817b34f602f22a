//! Match trees (`xds.type.matcher.v3.Matcher`): lists of conditions and maps of values that lead to an action.

use crate::cel::Program;
use crate::coverage::Covered;
use crate::error::{BuildError, BuildResult};
use crate::matchers::{CidrRange, StringMatcher};
use nuncio_api::envoy::extensions::matching::input_matchers::ip::v3::Ip;
use nuncio_api::envoy::r#type::matcher::v3 as envoy;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_api::xds::r#type::matcher::v3 as pb;
use pb::matcher::matcher_list::{
    Predicate as PbPredicate, predicate::MatchType, predicate::single_predicate,
};
use pb::matcher::matcher_tree::TreeType;
use pb::matcher::{MatcherType, OnMatch as PbOnMatch, on_match};
use prost::{Message, Name};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is read of trees; so that what stands in their actions is looked at too.
pub const COVERED: &[Covered] = &[
    Covered::new("xds.type.matcher.v3.Matcher", &["matcher_list", "matcher_tree", "on_no_match"]),
    Covered::new("xds.type.matcher.v3.Matcher.OnMatch", &["matcher", "action", "keep_matching"]),
    Covered::new("xds.type.matcher.v3.Matcher.MatcherList", &["matchers"]),
    Covered::new("xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher", &["predicate", "on_match"]),
    Covered::new(
        "xds.type.matcher.v3.Matcher.MatcherList.Predicate",
        &["single_predicate", "or_matcher", "and_matcher", "not_matcher"],
    ),
    Covered::new("xds.type.matcher.v3.Matcher.MatcherList.Predicate.PredicateList", &["predicate"]),
    Covered::new(
        "xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate",
        &["input", "value_match", "custom_match"],
    ),
    Covered::new(
        "xds.type.matcher.v3.StringMatcher",
        &["exact", "prefix", "suffix", "safe_regex", "contains", "custom", "ignore_case"],
    ),
    Covered::new("xds.type.matcher.v3.RegexMatcher", &["regex"])
        .ignoring(&[("google_re2", "names the one engine there is")]),
    Covered::new(
        "xds.type.matcher.v3.Matcher.MatcherTree",
        &["input", "exact_match_map", "prefix_match_map", "custom_match"],
    ),
    Covered::new("xds.type.matcher.v3.Matcher.MatcherTree.MatchMap", &["map"]),
    Covered::new("xds.type.matcher.v3.IPMatcher", &["range_matchers"]),
    Covered::new("xds.type.matcher.v3.IPMatcher.IPRangeMatcher", &["ranges", "on_match", "exclusive"]),
    Covered::new("envoy.extensions.matching.input_matchers.ip.v3.Ip", &["cidr_ranges"]).ignoring(&[(
        "stat_prefix",
        "counts inputs that are no addresses, and all that are matched so are some",
    )]),
    Covered::new("xds.core.v3.TypedExtensionConfig", &["name", "typed_config"]),
    Covered::new("envoy.config.core.v3.TypedExtensionConfig", &["name", "typed_config"]),
];

/// What a tree looks at, and what its leaves are: each user of trees has inputs and actions of its own.
pub trait Kind: Sized {
    /// A compiled input.
    type Input;
    /// A compiled action.
    type Action;
    /// What inputs are taken from.
    type Data<'d>;
    /// Compiles an input.
    ///
    /// # Errors
    /// There is no such input here.
    fn input(&self, config: &TypedExtensionConfig) -> BuildResult<Self::Input>;
    /// Compiles an action.
    ///
    /// # Errors
    /// There is no such action here.
    fn action(&self, config: &TypedExtensionConfig) -> BuildResult<Self::Action>;
    /// The value of an input.
    fn value<'a>(input: &Self::Input, data: &'a Self::Data<'_>) -> Value<'a>;
    /// The input is all attributes (`HttpAttributesCelMatchInput`), of which only an expression can say something.
    fn is_attributes(_: &Self::Input) -> bool {
        false
    }
    /// Whether an expression over the attributes is true.
    fn holds(_: &Program, _: &Self::Data<'_>) -> bool {
        false
    }
}

/// What an input says.
pub enum Value<'a> {
    /// It says nothing because there is nothing it could look at, e.g. no TLS: nothing can be decided.
    NotAvailable,
    /// There is none.
    None,
    /// A text.
    Some(Cow<'a, [u8]>),
}

/// Nothing can be decided.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAvailable;

/// The action found, none, or no decision.
pub type Found<'a, A> = Result<Option<&'a A>, NotAvailable>;

/// A compiled tree.
pub struct Tree<K: Kind> {
    node: Node<K>,
    otherwise: Option<OnMatch<K>>,
}

enum Node<K: Kind> {
    List(Vec<(Predicate<K>, OnMatch<K>)>),
    Exact(K::Input, BTreeMap<Vec<u8>, OnMatch<K>>),
    /// Longest first.
    Prefix(K::Input, Vec<(Vec<u8>, OnMatch<K>)>),
    /// Most specific range first; `exclusive` ranges hide those around them.
    Ip(K::Input, Vec<(CidrRange, usize)>, Vec<(OnMatch<K>, bool)>),
}

enum Predicate<K: Kind> {
    Value(K::Input, StringMatcher),
    Expression(Program),
    /// An address in one of these ranges.
    Address(K::Input, Box<[CidrRange]>),
    Any(Vec<Predicate<K>>),
    All(Vec<Predicate<K>>),
    Not(Box<Predicate<K>>),
}

struct OnMatch<K: Kind> {
    then: Then<K>,
    keep_matching: bool,
}

enum Then<K: Kind> {
    Action(K::Action),
    Tree(Box<Tree<K>>),
}

/// A deeper tree is a mistake, or an attack.
const MAX_DEPTH: usize = 32;

fn required(field: &str) -> BuildError {
    BuildError(format!("field: \"{field}\", reason: is required"))
}

fn unbuilt(what: &str, c: &TypedExtensionConfig) -> BuildError {
    let url = c.typed_config.as_ref().map_or("", |a| &a.type_url);
    let ty = url.rsplit('/').next().unwrap_or_default();
    BuildError::not_implemented(format_args!("{what} {} ({ty})", c.name))
}

impl<K: Kind> Tree<K> {
    /// Compiles a tree.
    ///
    /// # Errors
    /// An input, a matcher or an action that is not to be had here.
    pub fn new(m: &pb::Matcher, kind: &K) -> BuildResult<Tree<K>> {
        Tree::at(m, kind, 0)
    }
    fn at(m: &pb::Matcher, kind: &K, depth: usize) -> BuildResult<Tree<K>> {
        if depth > MAX_DEPTH {
            return Err(BuildError(format!("a match tree is deeper than {MAX_DEPTH}")));
        }
        let then = |o: Option<&PbOnMatch>| OnMatch::new(o.ok_or_else(|| required("on_match"))?, kind, depth);
        let node = match m.matcher_type.as_ref().ok_or_else(|| required("matcher_type"))? {
            MatcherType::MatcherList(l) => {
                let one = |f: &pb::matcher::matcher_list::FieldMatcher| {
                    let p = f.predicate.as_ref().ok_or_else(|| required("predicate"))?;
                    Ok((Predicate::new(p, kind, 0)?, then(f.on_match.as_ref())?))
                };
                Node::List(l.matchers.iter().map(one).collect::<BuildResult<_>>()?)
            }
            MatcherType::MatcherTree(t) => {
                let input = kind.input(t.input.as_ref().ok_or_else(|| required("input"))?)?;
                match t.tree_type.as_ref().ok_or_else(|| required("tree_type"))? {
                    TreeType::ExactMatchMap(m) => {
                        let all = m.map.iter().map(|(k, o)| Ok((k.clone().into_bytes(), then(Some(o))?)));
                        Node::Exact(input, all.collect::<BuildResult<_>>()?)
                    }
                    TreeType::PrefixMatchMap(m) => {
                        let all = m.map.iter().map(|(k, o)| Ok((k.clone().into_bytes(), then(Some(o))?)));
                        let mut all = all.collect::<BuildResult<Vec<_>>>()?;
                        all.sort_by_key(|(k, _)| std::cmp::Reverse(k.len()));
                        Node::Prefix(input, all)
                    }
                    TreeType::CustomMatch(c) => ip(input, c, then)?,
                }
            }
        };
        Ok(Tree { node, otherwise: m.on_no_match.as_deref().map(|o| then(Some(o))).transpose()? })
    }
    /// The action for some data.
    ///
    /// # Errors
    /// An input has nothing to look at.
    pub fn find(&self, data: &K::Data<'_>) -> Found<'_, K::Action> {
        if let Some(a) = self.node.find(data)? {
            return Ok(Some(a));
        }
        self.otherwise.as_ref().map_or(Ok(None), |o| o.find(data))
    }
}

/// The tree of address ranges.
fn ip<K: Kind>(
    input: K::Input,
    c: &TypedExtensionConfig,
    then: impl Fn(Option<&PbOnMatch>) -> BuildResult<OnMatch<K>>,
) -> BuildResult<Node<K>> {
    let any = c.typed_config.as_ref().ok_or_else(|| required("typed_config"))?;
    if any.type_url.rsplit('/').next() != Some(&*pb::IpMatcher::full_name()) {
        return Err(unbuilt("custom matcher", c));
    }
    let m = pb::IpMatcher::decode(&*any.value).map_err(|e| BuildError(e.to_string()))?;
    let (mut ranges, mut all) = (vec![], vec![]);
    for (i, r) in m.range_matchers.iter().enumerate() {
        for range in &r.ranges {
            ranges.push((CidrRange::from_xds(range)?, i));
        }
        all.push((then(r.on_match.as_ref())?, r.exclusive));
    }
    ranges.sort_by_key(|(r, _)| std::cmp::Reverse(r.prefix_len()));
    Ok(Node::Ip(input, ranges, all))
}

impl<K: Kind> Node<K> {
    fn find(&self, data: &K::Data<'_>) -> Found<'_, K::Action> {
        let text = |input| match K::value(input, data) {
            Value::NotAvailable => Err(NotAvailable),
            Value::None => Ok(None),
            Value::Some(v) => Ok(Some(v)),
        };
        match self {
            Node::List(all) => {
                for (predicate, then) in all {
                    if predicate.matches(data)?
                        && let Some(a) = then.find(data)?
                    {
                        return Ok(Some(a));
                    }
                }
            }
            Node::Exact(input, map) => {
                if let Some(then) = text(input)?.and_then(|v| map.get(&*v)) {
                    return then.find(data);
                }
            }
            Node::Prefix(input, all) => {
                if let Some(v) = text(input)? {
                    for (_, then) in all.iter().filter(|(k, _)| v.starts_with(k)) {
                        if let Some(a) = then.find(data)? {
                            return Ok(Some(a));
                        }
                    }
                }
            }
            Node::Ip(input, ranges, all) => {
                let v = text(input)?;
                let ip = v.and_then(|v| address(&v));
                for (_, i) in ip.iter().flat_map(|ip| ranges.iter().filter(move |r| r.0.contains(*ip))) {
                    let (then, exclusive) = &all[*i];
                    let found = then.find(data)?;
                    if found.is_some() || *exclusive {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(None)
    }
}

impl<K: Kind> OnMatch<K> {
    fn new(o: &PbOnMatch, kind: &K, depth: usize) -> BuildResult<OnMatch<K>> {
        let then = match o.on_match.as_ref().ok_or_else(|| required("on_match"))? {
            on_match::OnMatch::Action(a) => Then::Action(kind.action(a)?),
            on_match::OnMatch::Matcher(m) => Then::Tree(Box::new(Tree::at(m, kind, depth + 1)?)),
        };
        Ok(OnMatch { then, keep_matching: o.keep_matching })
    }
    fn find(&self, data: &K::Data<'_>) -> Found<'_, K::Action> {
        let found = match &self.then {
            Then::Action(a) => Some(a),
            Then::Tree(t) => t.find(data)?,
        };
        // What is to be kept matching behind is noted by nobody here.
        Ok(found.filter(|_| !self.keep_matching))
    }
}

impl<K: Kind> Predicate<K> {
    fn new(p: &PbPredicate, kind: &K, depth: usize) -> BuildResult<Predicate<K>> {
        if depth > MAX_DEPTH {
            return Err(BuildError(format!("a predicate is deeper than {MAX_DEPTH}")));
        }
        let list = |l: &pb::matcher::matcher_list::predicate::PredicateList| {
            l.predicate.iter().map(|p| Predicate::new(p, kind, depth + 1)).collect::<BuildResult<_>>()
        };
        Ok(match p.match_type.as_ref().ok_or_else(|| required("match_type"))? {
            MatchType::SinglePredicate(s) => {
                let input = kind.input(s.input.as_ref().ok_or_else(|| required("input"))?)?;
                match s.matcher.as_ref().ok_or_else(|| required("matcher"))? {
                    single_predicate::Matcher::ValueMatch(_) if K::is_attributes(&input) => {
                        return Err("attributes can be matched by an expression only".into());
                    }
                    single_predicate::Matcher::ValueMatch(m) => Predicate::Value(input, string(m)?),
                    single_predicate::Matcher::CustomMatch(c) => custom(input, c)?,
                }
            }
            MatchType::OrMatcher(l) => Predicate::Any(list(l)?),
            MatchType::AndMatcher(l) => Predicate::All(list(l)?),
            MatchType::NotMatcher(p) => Predicate::Not(Box::new(Predicate::new(p, kind, depth + 1)?)),
        })
    }
    /// As Envoy: what cannot be decided decides nothing, unless another condition does.
    fn matches(&self, data: &K::Data<'_>) -> Result<bool, NotAvailable> {
        match self {
            Predicate::Value(input, m) => match K::value(input, data) {
                Value::NotAvailable => Err(NotAvailable),
                Value::None => Ok(false),
                Value::Some(v) => Ok(m.matches(&v)),
            },
            Predicate::Address(input, ranges) => match K::value(input, data) {
                Value::NotAvailable => Err(NotAvailable),
                Value::None => Ok(false),
                Value::Some(v) => Ok(address(&v).is_some_and(|ip| ranges.iter().any(|r| r.contains(ip)))),
            },
            Predicate::Expression(p) => Ok(K::holds(p, data)),
            Predicate::Not(p) => p.matches(data).map(|m| !m),
            Predicate::Any(l) => until(l, data, true),
            Predicate::All(l) => until(l, data, false),
        }
    }
}

/// An input matcher that is an extension: `CelMatcher` or `Ip`.
fn custom<K: Kind>(input: K::Input, c: &TypedExtensionConfig) -> BuildResult<Predicate<K>> {
    let any = c.typed_config.as_ref().ok_or_else(|| required("typed_config"))?;
    let decode = |e: prost::DecodeError| BuildError(e.to_string());
    match (any.type_url.rsplit('/').next(), K::is_attributes(&input)) {
        (Some(t), true) if t == pb::CelMatcher::full_name() => {
            let m = pb::CelMatcher::decode(&*any.value).map_err(decode)?;
            let e = m.expr_match.as_ref().ok_or_else(|| required("expr_match"))?;
            Program::of_xds(e).map(Predicate::Expression)
        }
        (Some(t), false) if t == pb::CelMatcher::full_name() => {
            Err("a CelMatcher matches attributes only (HttpAttributesCelMatchInput)".into())
        }
        (Some(t), false) if t == Ip::full_name() => {
            let m = Ip::decode(&*any.value).map_err(decode)?;
            let ranges = m.cidr_ranges.iter().map(CidrRange::new);
            Ok(Predicate::Address(input, ranges.collect::<BuildResult<_>>()?))
        }
        _ => Err(unbuilt("input matcher", c)),
    }
}

/// The address that a text is.
fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The first of a list that says `end` ends it; one that cannot be decided does too.
fn until<K: Kind>(list: &[Predicate<K>], data: &K::Data<'_>, end: bool) -> Result<bool, NotAvailable> {
    for p in list {
        if p.matches(data)? == end {
            return Ok(end);
        }
    }
    Ok(!end)
}

/// The same message in another package.
fn string(m: &pb::StringMatcher) -> BuildResult<StringMatcher> {
    use envoy::string_matcher::MatchPattern as E;
    use pb::string_matcher::MatchPattern as P;
    let pattern = match m.match_pattern.as_ref().ok_or_else(|| required("match_pattern"))? {
        P::Exact(s) => E::Exact(s.clone()),
        P::Prefix(s) => E::Prefix(s.clone()),
        P::Suffix(s) => E::Suffix(s.clone()),
        P::Contains(s) => E::Contains(s.clone()),
        P::SafeRegex(r) => E::SafeRegex(envoy::RegexMatcher { regex: r.regex.clone(), ..Default::default() }),
        P::Custom(c) => return Err(unbuilt("string matcher", c)),
    };
    StringMatcher::new(&envoy::StringMatcher { match_pattern: Some(pattern), ignore_case: m.ignore_case })
}
