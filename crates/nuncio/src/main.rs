//! Floor 6: the binary. Flags and subcommands.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod cli;
mod sandbox;

use cli::Command;
use nuncio_control::server::Made;
use std::io::Write;
use std::process::ExitCode;

/// A subcommand: its name, what it does in one line, and its main function, which gets the words behind the name.
struct Subcommand {
    name: &'static str,
    summary: &'static str,
    run: fn(&[String]) -> ExitCode,
}

/// The words that may stand first on the command line in the place of options.
const SUBCOMMANDS: &[Subcommand] =
    &[Subcommand { name: "sandbox", summary: sandbox::SUMMARY, run: sandbox::run }];

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|w| w.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_else(|| "nuncio".to_owned());
    let args: Vec<String> = words.collect();
    if let Some((first, rest)) = args.split_first()
        && let Some(sub) = SUBCOMMANDS.iter().find(|s| s.name == first)
    {
        return (sub.run)(rest);
    }
    match cli::parse(&program, &args, &subcommands_help()) {
        Command::Exit(e) => {
            // A closed stdout or stderr is no reason for another exit code.
            let _ = std::io::stdout().write_all(e.out.as_bytes());
            let _ = std::io::stderr().write_all(e.err.as_bytes());
            ExitCode::from(e.code)
        }
        Command::Run(options) => nuncio_control::server::run(*options, made()),
    }
}

/// The engine, the server and every extension.
fn made() -> Made {
    let mut made = Made::new();
    nuncio_ext::register(&mut made.registry, &mut made.coverage);
    made
}

fn subcommands_help() -> String {
    if SUBCOMMANDS.is_empty() {
        return String::new();
    }
    let lines = SUBCOMMANDS.iter().map(|s| format!("   {}\n     {}\n\n", s.name, s.summary));
    format!("\nSubcommands: \n\n{}", lines.collect::<String>())
}
