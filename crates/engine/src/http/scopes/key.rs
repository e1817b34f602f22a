//! The key of a scope: what a request's headers say (`ScopedRoutes.scope_key_builder`).

use nuncio_api::envoy::config::route::v3::scoped_route_configuration as route;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3::scoped_routes as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_wire::{HeaderName, RequestHead, name};
use pb::scope_key_builder::fragment_builder::Type;
use pb::scope_key_builder::fragment_builder::header_value_extractor::ExtractType;
use smallvec::SmallVec;

/// The fragments, each behind its length: no two lists of them look alike.
pub type Key = SmallVec<[u8; 64]>;

fn push(key: &mut Key, fragment: &[u8]) {
    key.extend_from_slice(&(fragment.len() as u64).to_le_bytes());
    key.extend_from_slice(fragment);
}

/// The key of a configured scope (`ScopedRouteConfiguration.key`).
pub fn of(k: Option<&route::Key>) -> Key {
    let mut key = Key::new();
    for f in k.map_or(&[][..], |k| &k.fragments) {
        let Some(route::key::fragment::Type::StringKey(s)) = &f.r#type else { continue };
        push(&mut key, s.as_bytes());
    }
    key
}

/// Makes the keys of requests.
pub struct KeyBuilder(Box<[Extractor]>);

/// `HeaderValueExtractor`
struct Extractor {
    header: HeaderName,
    /// Between elements; empty: the value is one element.
    separator: Box<[u8]>,
    take: Take,
}

enum Take {
    /// The element at this place.
    Index(usize),
    /// What stands behind `separator` in the first element that has `key` before it.
    Value { separator: Box<[u8]>, key: Box<[u8]> },
}

impl KeyBuilder {
    /// Compiles a builder.
    ///
    /// # Errors
    /// It is refused.
    pub fn new(b: &pb::ScopeKeyBuilder) -> BuildResult<KeyBuilder> {
        crate::proto::each(&b.fragments, |f| match &f.r#type {
            Some(Type::HeaderValueExtractor(h)) => Extractor::new(h),
            None => Err("field: \"type\", reason: is required".into()),
        })
        .map(KeyBuilder)
    }
    /// The key of a request; none when a header is missing, or has not what is looked for.
    pub fn key(&self, head: &RequestHead) -> Option<Key> {
        let mut key = Key::new();
        for e in &self.0 {
            push(&mut key, e.extract(head)?);
        }
        Some(key)
    }
}

impl Extractor {
    fn new(h: &pb::scope_key_builder::fragment_builder::HeaderValueExtractor) -> BuildResult<Extractor> {
        let refused = |why: &str| BuildError(format!("Proto constraint validation failed ({why})"));
        let take = match &h.extract_type {
            Some(ExtractType::Index(i)) if *i > 0 && h.element_separator.is_empty() => {
                return Err(refused("Index > 0 for empty string element separator."));
            }
            Some(ExtractType::Index(i)) => Take::Index(*i as usize),
            Some(ExtractType::Element(e)) => {
                Take::Value { separator: e.separator.as_bytes().into(), key: e.key.as_bytes().into() }
            }
            None => return Err(refused("HeaderValueExtractor extract_type not set.")),
        };
        Ok(Extractor {
            header: HeaderName::new(&h.name),
            separator: h.element_separator.as_bytes().into(),
            take,
        })
    }
    /// Of a repeated header the first value counts, as in Envoy.
    fn extract<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        let value = match head.headers.get(&self.header) {
            // In Envoy `host` is another name of `:authority`.
            None if self.header.id() == name::HOST => head.headers.get(name::AUTHORITY)?,
            value => value?,
        };
        let mut elements = Elements { rest: Some(value), separator: &self.separator };
        match &self.take {
            Take::Index(i) => elements.nth(*i),
            Take::Value { separator, key } => elements.find_map(|e| match find(e, separator) {
                Some(at) => (e[..at] == **key).then(|| &e[at + separator.len()..]),
                None => (*e == **key).then_some(&b""[..]),
            }),
        }
    }
}

/// The parts of a value between separators.
struct Elements<'a, 's> {
    rest: Option<&'a [u8]>,
    separator: &'s [u8],
}

impl<'a> Iterator for Elements<'a, '_> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let Some(at) = find(rest, self.separator) else { return Some(rest) };
        self.rest = Some(&rest[at + self.separator.len()..]);
        Some(&rest[..at])
    }
}

/// Where `what` begins; what is empty is nowhere.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    match what {
        [] => None,
        [one] => text.iter().position(|b| b == one),
        _ => text.windows(what.len()).position(|w| w == what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::scope_key_builder::FragmentBuilder;
    use pb::scope_key_builder::fragment_builder::HeaderValueExtractor;
    use pb::scope_key_builder::fragment_builder::header_value_extractor::KvElement;

    fn builder(separator: &str, extract: ExtractType) -> BuildResult<KeyBuilder> {
        let h = HeaderValueExtractor {
            name: "X-Scope".into(),
            element_separator: separator.into(),
            extract_type: Some(extract),
        };
        KeyBuilder::new(&pb::ScopeKeyBuilder {
            fragments: vec![FragmentBuilder { r#type: Some(Type::HeaderValueExtractor(h)) }],
        })
    }
    fn key(fragments: &[&str]) -> Key {
        let mut k = Key::new();
        fragments.iter().for_each(|f| push(&mut k, f.as_bytes()));
        k
    }
    fn found(b: &KeyBuilder, values: &[&str]) -> Option<Key> {
        let mut head = RequestHead::default();
        values.iter().for_each(|v| head.headers.append("x-scope", v.as_bytes()));
        b.key(&head)
    }

    #[test]
    fn elements_by_their_place() {
        let b = builder(", ", ExtractType::Index(1)).expect("right");
        assert_eq!(found(&b, &["a, b, c"]), Some(key(&["b"])));
        assert_eq!(found(&b, &["a, "]), Some(key(&[""])));
        assert_eq!(found(&b, &["a,b"]), None);
        assert_eq!(found(&b, &["a", "a, b"]), None, "the first value counts");
        assert_eq!(found(&b, &[]), None);
        let whole = builder("", ExtractType::Index(0)).expect("right");
        assert_eq!(found(&whole, &["a, b"]), Some(key(&["a, b"])));
    }

    #[test]
    fn elements_by_their_key() {
        let e = KvElement { separator: "=".into(), key: "env".into() };
        let b = builder(";", ExtractType::Element(e)).expect("right");
        assert_eq!(found(&b, &["a=b;env=dev=1;env=x"]), Some(key(&["dev=1"])));
        assert_eq!(found(&b, &["a;env"]), Some(key(&[""])));
        assert_eq!(found(&b, &["environment=a"]), None);
    }

    #[test]
    fn a_place_needs_a_separator() {
        let why = builder("", ExtractType::Index(1)).err().expect("refused");
        assert_eq!(
            why.0,
            "Proto constraint validation failed (Index > 0 for empty string element separator.)"
        );
    }

    #[test]
    fn keys_are_told_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab"]), key(&["a", "b"]));
    }
}
