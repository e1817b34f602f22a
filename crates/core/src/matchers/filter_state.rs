//! `envoy.type.matcher.v3.FilterStateMatcher`.

use super::{CidrSet, StringMatcher};
use crate::error::BuildResult;
use crate::filter_state::{FilterState, StateObject};
use nuncio_api::envoy::r#type::matcher::v3 as pb;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// A compiled `FilterStateMatcher`.
#[derive(Clone)]
pub struct FilterStateMatcher {
    key: Box<str>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    String(StringMatcher),
    /// Lies in a range, or with `invert_match` in none.
    Address(CidrSet, bool),
}

impl FilterStateMatcher {
    /// Compiles.
    ///
    /// # Errors
    /// A bad matcher.
    pub fn new(m: &pb::FilterStateMatcher) -> BuildResult<FilterStateMatcher> {
        use pb::filter_state_matcher::Matcher as M;
        let kind = match &m.matcher {
            Some(M::StringMatch(s)) => Kind::String(StringMatcher::new(s)?),
            Some(M::AddressMatch(a)) => Kind::Address(CidrSet::from_xds(&a.ranges)?, a.invert_match),
            None => return Err("field: \"matcher\", reason: is required".into()),
        };
        Ok(FilterStateMatcher { key: m.key.as_str().into(), kind })
    }
    /// True when the stream's state has the object and it matches; one of the connection counts when the stream has none.
    pub fn matches(&self, stream: &FilterState, connection: &FilterState) -> bool {
        let Some(object) = stream.get(&self.key).or_else(|| connection.get(&self.key)) else { return false };
        self.matches_object(&object)
    }
    fn matches_object(&self, object: &Rc<dyn StateObject>) -> bool {
        let Some(text) = object.text() else { return false };
        match &self.kind {
            Kind::String(m) => m.matches(text.as_bytes()),
            Kind::Address(set, invert) => {
                let ip = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|a| a.ip()));
                ip.is_ok_and(|ip| set.contains(ip) != *invert)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter_state::{LifeSpan, StringObject};
    use nuncio_api::load::{Format, UnknownFields, parse_message};

    fn matcher(yaml: &str) -> FilterStateMatcher {
        let m = parse_message::<pb::FilterStateMatcher>(
            yaml.as_bytes(),
            Format::Yaml,
            "x",
            UnknownFields::Refuse,
        );
        FilterStateMatcher::new(&m.expect("it is well-formed").message).expect("a valid matcher")
    }

    #[test]
    fn strings_and_addresses() {
        let mut s = FilterState::default();
        s.set("a", LifeSpan::Request, Rc::new(StringObject("yes".into())));
        s.set("ip", LifeSpan::Request, Rc::new(StringObject("10.1.2.3:80".into())));
        let none = FilterState::default();
        let yes = matcher("{key: a, string_match: {exact: 'yes'}}");
        assert!(yes.matches(&s, &none) && yes.matches(&none, &s) && !yes.matches(&none, &none));
        assert!(!matcher("{key: a, string_match: {exact: 'no'}}").matches(&s, &none));
        let ten = "ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]";
        assert!(matcher(&format!("{{key: ip, address_match: {{{ten}}}}}")).matches(&s, &none));
        assert!(!matcher(&format!("{{key: a, address_match: {{{ten}}}}}")).matches(&s, &none));
        let others = |key| matcher(&format!("{{key: {key}, address_match: {{{ten}, invert_match: true}}}}"));
        assert!(
            !others("ip").matches(&s, &none) && !others("a").matches(&s, &none),
            "no address lies nowhere"
        );
    }
}
