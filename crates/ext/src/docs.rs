//! `docs/extensions.md`, made from what is registered.

use nuncio_core::Registry;
use nuncio_core::registry::Kind;
use std::fmt::Write;

/// The page on all extensions of a registry: for each its documentation, its config messages and its example.
pub fn page(registry: &Registry) -> String {
    let mut out = String::from(
        "# Extensions\n\nWhat this proxy has of Envoy's extensions, by category. Made by `cargo run -p xtask -- docs` from the\n\
         extensions themselves; every example is loaded by the tests. What is not here, and fields that are not named here,\n\
         is refused with `not implemented yet: …` when the configuration is loaded.\n",
    );
    let mut last: Option<Kind> = None;
    for (kind, e) in registry.iter() {
        if last != Some(kind) {
            append(&mut out, format_args!("\n## {}\n", kind.category()));
            last = Some(kind);
        }
        if kind == Kind::UpstreamHttpFilter {
            // It has a section as a filter of its own.
            let text = "The HTTP filter of this name, between the router and a host, where a cluster or the router names it.";
            append(&mut out, format_args!("\n### {} (upstream)\n\n{text}\n", e.name));
            continue;
        }
        append(&mut out, format_args!("\n### {}\n\n{}\n", e.name, e.docs.text.trim_end()));
        let types: Vec<_> = e.types.iter().map(|t| format!("`{t}`")).collect();
        append(&mut out, format_args!("\nType: {}\n", types.join(", ")));
        append(&mut out, format_args!("\n```yaml\n{}\n```\n", e.docs.example.trim_end()));
    }
    out
}

fn append(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}
