//! The lock files of the packages beside the workspace (`fuzz`, `soak`) know what the crates of the workspace depend on: a
//! crate that gains a dependency makes them stale, and `--locked` then refuses to build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use xtask::tree;

/// What each package of a lock file depends on, by name; versions behind the names are cut off.
fn locked(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let Some(name) = package.split("name = \"").nth(1).and_then(|rest| rest.split('"').next()) else {
            continue;
        };
        let list = package.split("dependencies = [").nth(1).and_then(|rest| rest.split(']').next());
        let lines = list.unwrap_or_default().lines();
        let names = lines.filter_map(|line| line.split('"').nth(1)?.split(' ').next());
        found.insert(name, names.collect());
    }
    found
}

/// The dependencies of a manifest, without those for tests and for building.
fn needed(manifest: &str) -> BTreeSet<&str> {
    let tables = manifest.split("\n[").filter(|table| {
        let head = table.split(']').next().unwrap_or_default();
        head == "dependencies" || head.starts_with("target.") && head.ends_with(".dependencies")
    });
    let lines = tables.flat_map(|table| table.lines().skip(1));
    let keys = lines.filter(|line| !line.starts_with('#') && line.contains('='));
    keys.filter_map(|line| line.split(['.', '=', ' ']).next()).filter(|key| !key.is_empty()).collect()
}

#[test]
fn lock_files_beside_the_workspace_are_not_stale() {
    let root = tree::root();
    let mut checked = 0;
    for folder in ["fuzz", "soak"] {
        let lock = fs::read_to_string(root.join(folder).join("Cargo.lock")).expect("a lock file");
        for (package, has) in locked(&lock) {
            let Some(short) = package.strip_prefix("nuncio-") else { continue };
            let path = root.join("crates").join(short).join("Cargo.toml");
            let Ok(manifest) = fs::read_to_string(path) else { continue };
            for name in needed(&manifest) {
                assert!(
                    has.contains(name),
                    "{folder}/Cargo.lock does not know that {package} needs {name}: \
                     run `cargo metadata --manifest-path {folder}/Cargo.toml`"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "dependencies were found: {checked}");
}

#[test]
fn both_files_are_understood() {
    let lock = "[[package]]\nname = \"a\"\nversion = \"1\"\ndependencies = [\n \"b\",\n \"c 2.0\",\n]\n\n[[package]]\nname = \"b\"\n";
    let found = locked(lock);
    assert_eq!(found["a"], BTreeSet::from(["b", "c"]));
    assert!(found["b"].is_empty());
    let manifest = "[package]\nname = \"a\"\n\n[dependencies]\nb.workspace = true\nc = { path = \"..\" }\n# no = 1\n\n\
                    [dev-dependencies]\nd = \"1\"\n";
    assert_eq!(needed(manifest), BTreeSet::from(["b", "c"]));
}
