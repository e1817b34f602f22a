//! `envoy.type.matcher.v3.ValueMatcher` and `MetadataMatcher`, over `google.protobuf.Value`.

use super::{DoubleMatcher, StringMatcher};
use crate::error::BuildResult;
use crate::metadata::Metadata;
use nuncio_api::envoy::r#type::matcher::v3 as pb;
use prost_types::Value;
use prost_types::value::Kind;

/// A compiled `ValueMatcher`. `None` is a value that is not there; a `null` is there.
#[derive(Clone, Debug)]
pub enum ValueMatcher {
    /// Matches `null`.
    Null,
    /// A number.
    Double(DoubleMatcher),
    /// A string.
    String(StringMatcher),
    /// A boolean.
    Bool(bool),
    /// With `true` any value that is there; with `false` nothing at all, as in Envoy.
    Present(bool),
    /// A list one of whose values matches.
    List(Box<ValueMatcher>),
    /// Any of these.
    Or(Vec<ValueMatcher>),
}

impl ValueMatcher {
    /// Compiles.
    pub fn new(m: &pb::ValueMatcher) -> BuildResult<ValueMatcher> {
        use pb::value_matcher::MatchPattern as P;
        Ok(match &m.match_pattern {
            Some(P::NullMatch(_)) => ValueMatcher::Null,
            Some(P::DoubleMatch(d)) => ValueMatcher::Double(DoubleMatcher::new(d)?),
            Some(P::StringMatch(s)) => ValueMatcher::String(StringMatcher::new(s)?),
            Some(P::BoolMatch(b)) => ValueMatcher::Bool(*b),
            Some(P::PresentMatch(b)) => ValueMatcher::Present(*b),
            Some(P::ListMatch(l)) => match &l.match_pattern {
                Some(pb::list_matcher::MatchPattern::OneOf(v)) => {
                    ValueMatcher::List(Box::new(ValueMatcher::new(v)?))
                }
                None => return Err("field: \"match_pattern\", reason: is required".into()),
            },
            Some(P::OrMatch(o)) => {
                ValueMatcher::Or(o.value_matchers.iter().map(ValueMatcher::new).collect::<BuildResult<_>>()?)
            }
            None => return Err("field: \"match_pattern\", reason: is required".into()),
        })
    }
    /// True when the value matches.
    pub fn matches(&self, value: Option<&Value>) -> bool {
        let kind = value.and_then(|v| v.kind.as_ref());
        match (self, kind) {
            (ValueMatcher::Null, Some(Kind::NullValue(_))) => true,
            (ValueMatcher::Double(d), Some(Kind::NumberValue(n))) => d.matches(*n),
            (ValueMatcher::String(s), Some(Kind::StringValue(v))) => s.matches(v.as_bytes()),
            (ValueMatcher::Bool(b), Some(Kind::BoolValue(v))) => b == v,
            (ValueMatcher::Present(b), k) => *b && k.is_some(),
            (ValueMatcher::List(m), Some(Kind::ListValue(l))) => l.values.iter().any(|v| m.matches(Some(v))),
            (ValueMatcher::Or(ms), _) => ms.iter().any(|m| m.matches(value)),
            _ => false,
        }
    }
}

/// A compiled `MetadataMatcher`: a value at a path of a name space.
#[derive(Clone, Debug)]
pub struct MetadataMatcher {
    namespace: Box<str>,
    path: Vec<Box<str>>,
    value: ValueMatcher,
    invert: bool,
}

impl MetadataMatcher {
    /// Compiles.
    pub fn new(m: &pb::MetadataMatcher) -> BuildResult<MetadataMatcher> {
        let key = |s: &pb::metadata_matcher::PathSegment| match &s.segment {
            Some(pb::metadata_matcher::path_segment::Segment::Key(k)) => Ok(k.as_str().into()),
            None => Err("field: \"segment\", reason: is required".into()),
        };
        let Some(value) = &m.value else { return Err("Value: value is required".into()) };
        Ok(MetadataMatcher {
            namespace: m.filter.as_str().into(),
            path: m.path.iter().map(key).collect::<BuildResult<_>>()?,
            value: ValueMatcher::new(value)?,
            invert: m.invert,
        })
    }
    /// True when the metadata matches.
    pub fn matches(&self, metadata: &Metadata) -> bool {
        self.matches_value(metadata.get(&self.namespace, self.path.iter().map(|s| &**s)))
    }
    /// As [`matches`](Self::matches) when there is no metadata at all.
    pub fn matches_none(&self) -> bool {
        self.matches_value(None)
    }
    fn matches_value(&self, value: Option<&Value>) -> bool {
        self.value.matches(value) != self.invert
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::value_matcher::MatchPattern as P;
    use prost_types::{ListValue, Struct};

    fn m(p: P) -> ValueMatcher {
        ValueMatcher::new(&pb::ValueMatcher { match_pattern: Some(p) }).expect("a valid matcher")
    }
    fn v(k: Kind) -> Value {
        Value { kind: Some(k) }
    }
    fn string(s: &str) -> P {
        let p = pb::string_matcher::MatchPattern::Exact(s.into());
        P::StringMatch(pb::StringMatcher { ignore_case: false, match_pattern: Some(p) })
    }

    #[test]
    fn values() {
        let null = v(Kind::NullValue(0));
        let text = v(Kind::StringValue("a".into()));
        let list = v(Kind::ListValue(ListValue { values: vec![v(Kind::BoolValue(true)), text.clone()] }));
        assert!(m(P::NullMatch(Default::default())).matches(Some(&null)));
        assert!(!m(P::NullMatch(Default::default())).matches(None));
        assert!(m(string("a")).matches(Some(&text)) && !m(string("b")).matches(Some(&text)));
        assert!(!m(P::BoolMatch(true)).matches(Some(&text)));
        assert!(m(P::PresentMatch(true)).matches(Some(&null)) && !m(P::PresentMatch(true)).matches(None));
        assert!(!m(P::PresentMatch(false)).matches(None) && !m(P::PresentMatch(false)).matches(Some(&null)));
        let one_of = |p| {
            let inner = pb::ValueMatcher { match_pattern: Some(p) };
            let one = pb::list_matcher::MatchPattern::OneOf(Box::new(inner));
            m(P::ListMatch(Box::new(pb::ListMatcher { match_pattern: Some(one) })))
        };
        assert!(one_of(string("a")).matches(Some(&list)) && !one_of(string("b")).matches(Some(&list)));
        assert!(!one_of(string("a")).matches(Some(&text)));
        let either = [string("x"), P::BoolMatch(true)].map(|p| pb::ValueMatcher { match_pattern: Some(p) });
        let or = m(P::OrMatch(pb::OrMatcher { value_matchers: either.into() }));
        assert!(or.matches(Some(&v(Kind::BoolValue(true)))) && !or.matches(Some(&text)));
        let exact = pb::double_matcher::MatchPattern::Exact(2.0);
        assert!(
            m(P::DoubleMatch(pb::DoubleMatcher { match_pattern: Some(exact) }))
                .matches(Some(&v(Kind::NumberValue(2.0))))
        );
    }

    #[test]
    fn metadata_by_path() {
        let key = |k: &str| pb::metadata_matcher::PathSegment {
            segment: Some(pb::metadata_matcher::path_segment::Segment::Key(k.into())),
        };
        let make = |invert| {
            MetadataMatcher::new(&pb::MetadataMatcher {
                filter: "ns".into(),
                path: vec![key("a"), key("b")],
                value: Some(pb::ValueMatcher { match_pattern: Some(string("x")) }),
                invert,
            })
            .expect("a valid matcher")
        };
        let inner = Struct { fields: [("b".to_owned(), v(Kind::StringValue("x".into())))].into() };
        let mut md = Metadata::default();
        md.merge("ns", Struct { fields: [("a".to_owned(), v(Kind::StructValue(inner)))].into() });
        assert!(make(false).matches(&md) && !make(true).matches(&md));
        assert!(!make(false).matches(&Metadata::default()) && make(true).matches_none());
    }
}
