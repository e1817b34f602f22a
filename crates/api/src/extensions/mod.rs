//! The extensions that Envoy 1.40.0 knows, by category and type URL (`extensions.tsv`).
//!
//! Tells apart what Envoy does not know (`Didn't find a registered implementation for …`) from what Nuncio does not have
//! yet (`not implemented yet: …`). A configuration of an extension is found by its type alone; its name is free.

use std::collections::HashMap;
use std::sync::OnceLock;

/// How much an extension matters; from `extensions.tsv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The front-proxy sandbox or the project's mission needs it.
    T0,
    /// Control planes emit it.
    T1,
    /// Hand-written configurations have it.
    T2,
    /// Rare.
    T3,
}

/// Where Envoy has an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the stock binary.
    Core,
    /// Only in contrib builds: the stock binary does not know it.
    Contrib,
    /// In no build for Linux servers, although the protos name it.
    Absent,
}

/// An extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Category, e.g. `envoy.filters.http`.
    pub category: &'static str,
    /// Canonical name, e.g. `envoy.filters.http.router`.
    pub name: &'static str,
    /// Full names of the messages that configure it; those for routes come after that for the extension itself.
    pub messages: Vec<&'static str>,
    /// How much it matters.
    pub tier: Tier,
    /// Where Envoy has it.
    pub origin: Origin,
}

struct Table {
    all: Vec<Extension>,
    by_message: HashMap<&'static str, Vec<usize>>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = include_str!("extensions.tsv").lines().filter(|line| !line.starts_with('#'));
        let all: Vec<_> = lines.filter_map(parse).collect();
        let mut by_message: HashMap<_, Vec<_>> = HashMap::new();
        for (index, extension) in all.iter().enumerate() {
            for message in &extension.messages {
                by_message.entry(*message).or_default().push(index);
            }
        }
        Table { all, by_message }
    })
}

fn parse(line: &'static str) -> Option<Extension> {
    let mut columns = line.split('\t');
    let (category, name, messages) = (columns.next()?, columns.next()?, columns.next()?);
    let tier = match columns.next()? {
        "T0" => Tier::T0,
        "T1" => Tier::T1,
        "T2" => Tier::T2,
        _ => Tier::T3,
    };
    let origin = match columns.next()? {
        "core" => Origin::Core,
        "contrib" => Origin::Contrib,
        _ => Origin::Absent,
    };
    let messages = messages.split(',').filter(|message| *message != "-").collect();
    Some(Extension { category, name, messages, tier, origin })
}

/// All extensions, by category and name.
pub fn all() -> &'static [Extension] {
    &table().all
}

/// The extension of a category that a type URL (with or without host) configures.
pub fn find(category: &str, type_url: &str) -> Option<&'static Extension> {
    by_type_url(type_url).find(|extension| extension.category == category)
}

/// The extensions of all categories that a type URL configures.
pub fn by_type_url(type_url: &str) -> impl Iterator<Item = &'static Extension> + use<> {
    let message = type_url.rsplit_once('/').map_or(type_url, |(_, message)| message);
    let indexes = table().by_message.get(message).map_or(&[][..], Vec::as_slice);
    indexes.iter().map(|index| &table().all[*index])
}

/// What Envoy says of an extension that it does not know. The URL is shown without its host, as Envoy does.
pub fn unregistered(name: &str, type_url: &str) -> String {
    let message = type_url.rsplit_once('/').map_or(type_url, |(_, message)| message);
    format!("Didn't find a registered implementation for '{name}' with type URL: '{message}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn extensions_are_found_by_category_and_type_url() {
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        let found = find("envoy.filters.http", router).expect("the router");
        assert_eq!(
            (found.name, found.tier, found.origin),
            ("envoy.filters.http.router", Tier::T0, Origin::Core)
        );
        assert!(find("envoy.filters.network", router).is_none());
        assert_eq!(by_type_url("x/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer").count(), 2);
        let dynamo =
            find("envoy.filters.http", "envoy.extensions.filters.http.dynamo.v3.Dynamo").expect("dynamo");
        assert_eq!((dynamo.tier, dynamo.origin), (Tier::T0, Origin::Contrib));
        assert!(by_type_url("").next().is_none());
    }

    #[test]
    fn every_configuration_of_the_stock_binary_has_a_message() {
        let missing: Vec<_> = all()
            .iter()
            .filter(|extension| extension.origin == Origin::Core)
            .flat_map(|extension| &extension.messages)
            .filter(|message| schema::message(message).is_none())
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(all().len() > 500);
    }
}
