//! `cargo run -p xtask -- floors`: which crate sees which. `cargo run -p xtask -- sizes`: how long the files are.
//! `cargo run -p xtask -- docs`: writes `docs/extensions.md`. `cargo run -p xtask -- plots`: runs the simulation of a cluster and draws it
//! into `docs/`.
//!
//! The rules about both are tests (`cargo test -p xtask`); this prints what they look at.

use std::process::Command;
use std::process::ExitCode;
use xtask::{floors, metadata, plots, sizes, tree};

/// Runs the simulation of a cluster's bad day, and draws what was seen.
fn plots() -> Result<(), String> {
    let seen = tree::root().join("target/simulation.csv");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ran = Command::new(cargo)
        .args(["test", "-p", "nuncio-engine", "--lib", "simulation"])
        .env("NUNCIO_SIMULATION", &seen)
        .current_dir(tree::root())
        .status();
    if !ran.map_err(|e| e.to_string())?.success() {
        return Err("the simulation fails".into());
    }
    let csv = std::fs::read_to_string(&seen).map_err(|e| format!("{}: {e}", seen.display()))?;
    for (name, svg) in plots::all(&csv)? {
        let path = tree::root().join("docs").join(name);
        std::fs::write(&path, svg).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

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
        Some("plots") => {
            if let Err(e) = plots() {
                eprintln!("{e}");
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("usage: xtask docs|floors|plots|sizes");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
