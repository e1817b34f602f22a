//! Links between our documents lead somewhere.

use std::path::Path;
use xtask::tree;

/// Targets of `[text](target)` outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        // Inline code is not a link either: every second piece between backticks.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        found.extend(prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned));
    }
    found
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = tree::root();
    let mut checked = 0;
    for f in tree::with_ending(".md") {
        let folder = Path::new(&f.path).parent().unwrap_or(Path::new(""));
        for link in links(&f.text).iter().filter(|l| !l.contains("://") && !l.starts_with('#')) {
            let path = link.split('#').next().unwrap_or(link);
            assert!(root.join(folder).join(path).exists(), "{}: {link} does not exist", f.path);
            checked += 1;
        }
    }
    assert!(checked > 3, "no links were found");
}

#[test]
fn links_are_found() {
    let text = "see [a](b.md) and [c](d.md#e), not `[x](y)`\n```\n[x](y)\n```\n[f](g)";
    assert_eq!(links(text), ["b.md", "d.md#e", "g"]);
}
