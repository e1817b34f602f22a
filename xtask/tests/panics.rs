//! Nothing that strangers send, and no configuration, may make a floor below the binary panic.

/// What each crate denies outside of its tests. An exception says by which invariant it holds:
/// `#[expect(clippy::expect_used, reason = "…")]`.
const DENIED: [&str; 4] =
    ["clippy::unwrap_used", "clippy::expect_used", "clippy::panic", "clippy::unreachable"];

#[test]
fn every_crate_denies_panics_without_a_reason() {
    for name in ["wire", "core", "engine", "ext", "control", "api"] {
        let path = xtask::tree::root().join(format!("crates/{name}/src/lib.rs"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let rules = text.split_once("#![cfg_attr(").and_then(|(_, rest)| rest.split_once(")]"));
        let (rules, _) = rules.unwrap_or_else(|| panic!("{name} denies nothing"));
        assert!(rules.trim_start().starts_with("not(test),"), "{name}: tests may panic, the rest may not");
        for lint in DENIED {
            assert!(rules.contains(lint), "{name} does not deny {lint}");
        }
    }
}

#[test]
fn every_exception_has_a_reason() {
    for f in xtask::tree::with_ending(".rs").iter().filter(|f| f.path.starts_with("crates/")) {
        for (at, _) in f.text.match_indices("#[expect(").chain(f.text.match_indices("#[allow(")) {
            let attribute = f.text[at..].split_once(")]").map_or("", |(a, _)| a);
            let excuses = DENIED.iter().any(|lint| attribute.contains(lint));
            assert!(!excuses || attribute.contains("reason = \""), "{}: {attribute}: why?", f.path);
        }
    }
}
