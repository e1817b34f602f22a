//! Files stay short enough to be read.

use xtask::sizes::{LONG, REASON, Sizes};
use xtask::tree;

#[test]
fn files_are_short() {
    let sizes = Sizes::of_sources();
    assert!(sizes.longest(usize::MAX).count() > 100, "the sources were not found: {sizes}");
    assert_eq!(sizes.broken(), Vec::<String>::new(), "{:?}", sizes.longest(20).collect::<Vec<_>>());
}

#[test]
fn long_files_say_why() {
    for f in tree::with_ending(".rs") {
        let lines = f.text.lines().count();
        let reason = f.text.lines().take(40).any(|l| l.starts_with(REASON));
        assert!(lines <= LONG || reason, "{} has {lines} lines and no `{REASON}…` at its top", f.path);
    }
}

#[test]
fn the_rule_finds_what_is_wrong() {
    let of = |lines: &[usize]| Sizes::new(lines.iter().map(|n| (*n, format!("{n}.rs"))).collect());
    assert_eq!(of(&[100, 200, 600, 10]).broken(), Vec::<String>::new());
    assert!(of(&[201, 201, 10]).broken()[0].contains("median"));
    assert!(of(&[1, 1, 1, 1, 1, 1, 1, 601, 601, 601]).broken()[0].contains("one in ten"));
}
