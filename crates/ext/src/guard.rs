//! What every extension of this crate owes: documentation, an example that loads, tests, its stats in the docs, and a
//! page in `docs/` that is current.

use crate::testing::{
    any_network_filters, early_mutation, filters, listener_filters, loggers, registered, tracer_of,
    upstream_filter,
};
use nuncio_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_core::registry::Kind;
use nuncio_core::stats::Store;
use nuncio_testkit::filter_test::counters;

/// Builds an example as its kind is built; the names of the stats it made.
fn load(kind: Kind, example: &str) -> Vec<String> {
    match kind {
        Kind::HttpFilter => filters(example).stats().into_iter().map(|(name, _)| name).collect(),
        Kind::UpstreamHttpFilter => {
            let store = Store::new();
            upstream_filter(example, &store).unwrap_or_else(|e| panic!("{e}\n{example}"));
            counters(&store).into_iter().map(|(name, _)| name).collect()
        }
        Kind::AccessLogger => {
            let yaml = format!("stat_prefix: t\ncluster: c\naccess_log:\n{example}");
            let loaded =
                parse_message::<TcpProxy>(yaml.as_bytes(), Format::Yaml, "example", UnknownFields::Refuse);
            let logs =
                loaded.unwrap_or_else(|e| panic!("{}\n{example}", e.envoy_phrase())).message.access_log;
            assert!(!logs.is_empty());
            let coverage = registered().1;
            for l in &logs {
                let bytes = prost::Message::encode_to_vec(l);
                let unread = coverage.check("envoy.config.accesslog.v3.AccessLog", &bytes);
                assert!(unread.is_empty(), "{unread:?}");
            }
            let store = Store::new();
            let built = loggers(&logs, &store).unwrap_or_else(|e| panic!("{e}\n{example}"));
            assert_eq!(built.len(), logs.len());
            counters(&store).into_iter().map(|(name, _)| name).collect()
        }
        Kind::ListenerFilter => {
            let (built, store) = listener_filters(example);
            assert!(!built.is_empty());
            counters(&store).into_iter().map(|(name, _)| name).collect()
        }
        Kind::NetworkFilter => {
            counters(&any_network_filters(example)).into_iter().map(|(name, _)| name).collect()
        }
        Kind::Tracer => {
            let store = Store::new();
            tracer_of(example, &store).unwrap_or_else(|e| panic!("{e}\n{example}"));
            counters(&store).into_iter().map(|(name, _)| name).collect()
        }
        Kind::EarlyHeaderMutation => {
            let store = Store::new();
            early_mutation(example, &store).unwrap_or_else(|e| panic!("{e}\n{example}"));
            counters(&store).into_iter().map(|(name, _)| name).collect()
        }
        other => panic!("say here how an example of kind {other:?} is loaded"),
    }
}

#[test]
fn every_extension_is_documented_and_its_example_loads() {
    let (registry, _) = registered();
    for (kind, e) in registry.iter() {
        assert!(e.docs.text.len() > 100, "{}: say in README.md what it does", e.name);
        assert!(e.docs.example.contains(e.name), "{}: example.yaml is of something else", e.name);
        assert!(e.types.iter().any(|t| e.docs.text.contains(t)), "{}: name the config message", e.name);
        for stat in load(kind, e.docs.example) {
            // The last part of the name: what stands before it is configured.
            let name = stat.rsplit('.').next().unwrap_or_default();
            let listed =
                e.docs.text.contains(&format!("`{name}`")) || e.docs.text.contains("those of `filesystem.`");
            assert!(listed, "{}: list the stat {stat} in README.md", e.name);
        }
    }
}

#[test]
fn every_extension_has_tests() {
    let folders = [
        crate::http::FOLDERS,
        crate::listener::FOLDERS,
        crate::network::FOLDERS,
        crate::access_log::FOLDERS,
        crate::tracers::FOLDERS,
        crate::early_header_mutation::FOLDERS,
    ]
    .concat();
    // A filter that is one of upstream filters, too, is in one folder.
    let registry = registered().0;
    let extensions = registry.iter().filter(|(kind, _)| *kind != Kind::UpstreamHttpFilter);
    assert_eq!(folders.len(), extensions.count());
    for (name, tests) in folders {
        assert!(tests.contains("#[test]"), "{name}/tests.rs tests nothing");
    }
}

#[test]
fn extensions_are_those_that_envoy_has() {
    for (kind, e) in registered().0.iter() {
        for t in &e.types {
            let known = nuncio_api::extensions::find(kind.category(), t);
            assert!(known.is_some(), "Envoy has no {t} in {}", kind.category());
        }
    }
}

#[test]
fn coverage_names_messages_and_fields_that_exist() {
    for c in registered().1.iter() {
        let m = nuncio_api::schema::message(c.message).unwrap_or_else(|| panic!("{}", c.message));
        for f in c.fields.iter().chain(c.ignored.iter().map(|(f, _)| f)) {
            assert!(m.field(f).is_some(), "{} has no {f}", c.message);
        }
    }
}

#[test]
fn the_page_on_extensions_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/extensions.md");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == crate::docs::page(&registered().0),
        "docs/extensions.md is old: run `cargo run -p xtask -- docs`"
    );
}
