//! Nothing that strangers send, and no configuration, may make the product panic.

/// What each crate denies outside of its tests. An exception says by which invariant it holds:
/// `#[expect(clippy::expect_used, reason = "…")]`.
const DENIED: [&str; 4] =
    ["clippy::unwrap_used", "clippy::expect_used", "clippy::panic", "clippy::unreachable"];

#[test]
fn every_crate_denies_panics_without_a_reason() {
    for name in ["wire", "core", "engine", "ext", "control", "api", "plane", "nuncio"] {
        let file = if name == "nuncio" { "main.rs" } else { "lib.rs" };
        let path = xtask::tree::root().join(format!("crates/{name}/src/{file}"));
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

/// Beside code, in its test modules and in what tests share, `expect` says what had to hold.
#[test]
fn nothing_is_unwrapped_without_a_word() {
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("tests.rs");
    for f in xtask::tree::with_ending(".rs").iter().filter(|f| !is_test(&f.path)) {
        // Written apart, so that this file does not find itself.
        assert!(!f.text.contains(concat!(".unwrap", "()")), "{}: say by `expect` what holds", f.path);
    }
}
