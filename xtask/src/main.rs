//! `cargo run -p xtask -- floors`: which crate sees which. `cargo run -p xtask -- sizes`: how long the files are.
//! `cargo run -p xtask -- docs`: writes `docs/extensions.md`.
//!
//! The rules about both are tests (`cargo test -p xtask`); this prints what they look at.

use std::process::ExitCode;
use xtask::{floors, metadata, sizes, tree};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("floors") => {
            let mut arrows = floors::arrows(&metadata::workspace());
            arrows.sort_by_key(|a| (floors::floor(&a.from), a.from.clone(), a.to.clone()));
            for arrow in arrows.iter().filter(|a| floors::floor(&a.to).is_some()) {
                println!("{arrow}");
            }
        }
        Some("sizes") => {
            let sizes = sizes::Sizes::of_sources();
            for (lines, path) in sizes.longest(20) {
                println!("{lines:6} {path}");
            }
            println!("{sizes}");
        }
        Some("docs") => {
            let mut registry = nuncio_core::Registry::default();
            nuncio_ext::register(&mut registry, &mut nuncio_core::coverage::Coverage::default());
            let path = tree::root().join("docs/extensions.md");
            if let Err(e) = std::fs::write(&path, nuncio_ext::docs::page(&registry)) {
                eprintln!("{}: {e}", path.display());
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("usage: xtask docs|floors|sizes");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
