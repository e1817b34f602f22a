//! `cargo run -p xtask -- floors`: which crate sees which. `cargo run -p xtask -- sizes`: how long the files are.
//!
//! The rules about both are tests (`cargo test -p xtask`); this prints what they look at.

use std::process::ExitCode;
use xtask::{floors, metadata, sizes};

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
        _ => {
            eprintln!("usage: xtask floors|sizes");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
