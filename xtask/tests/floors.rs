//! The floors hold (ARCHITECTURE.md).

use std::path::Path;
use xtask::floors::{Arrow, BESIDE, FLOORS, arrows, fault};
use xtask::metadata::{Kind, workspace};

#[test]
fn arrows_only_point_down() {
    let packages = workspace();
    for (name, _) in FLOORS {
        assert!(packages.iter().any(|p| p.name == name), "{name} is gone: its floor stands empty");
    }
    let faults: Vec<String> = arrows(&packages).iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_crate_has_a_floor_and_the_lints_of_the_workspace() {
    for p in workspace() {
        let known = FLOORS.iter().any(|(n, _)| *n == p.name) || BESIDE.contains(&p.name.as_str());
        assert!(known, "{} has no floor", p.name);
        let manifest = std::fs::read_to_string(Path::new(&p.manifest)).expect("cargo has just read it");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} goes without the lints", p.name);
    }
}

#[test]
fn the_rule_finds_what_is_wrong() {
    let arrow = |from: &str, to: &str, kind| Arrow { from: from.into(), to: to.into(), kind };
    for (from, to, kind, says) in [
        ("nuncio-core", "nuncio-engine", Kind::Normal, "points up"),
        ("nuncio-api", "nuncio-core", Kind::Build, "points up"),
        ("nuncio-engine", "nuncio-ext", Kind::Normal, "between siblings"),
        ("nuncio-ext", "nuncio-engine", Kind::Dev, "between siblings"),
        ("nuncio-control", "nuncio-testkit", Kind::Normal, "only tests"),
        ("nuncio-wire", "nuncio-api", Kind::Normal, "closed list"),
        ("nuncio-wire", "tokio", Kind::Normal, "closed list"),
        ("nuncio-core", "socket2", Kind::Normal, "sockets"),
        ("nuncio-new", "bytes", Kind::Normal, "has no floor"),
    ] {
        let found = fault(&arrow(from, to, kind)).unwrap_or_else(|| panic!("{from} -> {to} passes"));
        assert!(found.contains(says), "{found}");
    }
    for (from, to, kind) in [
        ("nuncio-ext", "nuncio-core", Kind::Normal),
        ("nuncio-engine", "nuncio-testkit", Kind::Dev),
        ("nuncio-testkit", "nuncio", Kind::Normal),
        ("nuncio-wire", "bytes", Kind::Normal),
        ("nuncio-engine", "rustls", Kind::Normal),
    ] {
        assert_eq!(fault(&arrow(from, to, kind)), None);
    }
}
