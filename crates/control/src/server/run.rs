//! The way through a server's life, by mode.

use super::build::{self, Made};
use super::serve;
use crate::bootstrap::Refusal;
use crate::options::{Mode, Options};
use nuncio_core::registry::Registry;
use nuncio_core::{log, log_lines, rng};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs a server to its end. The calling thread becomes main.
pub fn run(mut options: Options, mut made: Made) -> ExitCode {
    log::set_all(options.log_level);
    for (logger, level) in &options.component_log_levels {
        log::set_level(*logger, *level);
    }
    log::set_format(&options.log_format, options.log_format_escaped);
    for w in &options.warnings {
        log!(Config, Warning, "{w}");
    }
    for e in &options.disabled_extensions {
        disable(&mut made.registry, e);
    }
    let code = match options.mode {
        Mode::Validate => validate(&options, &made),
        Mode::Serve | Mode::InitOnly => {
            base_id(&mut options);
            start(&options, &Arc::new(made))
        }
    };
    log::flush();
    code
}

fn disable(registry: &mut Registry, extension: &str) {
    match extension.split_once('/') {
        None => log!(Misc, Warning, "failed to disable invalid extension name '{extension}'"),
        Some((category, name)) if registry.disable(category, name) => {
            log!(Misc, Info, "disabled extension '{extension}'");
        }
        Some(_) => log!(Misc, Warning, "failed to disable unknown extension '{extension}'"),
    }
}

/// `--use-dynamic-base-id` and `--base-id-path`. Nothing is shared under the id yet; it is reported.
fn base_id(options: &mut Options) {
    if options.use_dynamic_base_id {
        options.base_id = rng::below(1 << 28) as u32;
    }
    if !options.base_id_path.is_empty()
        && std::fs::write(&options.base_id_path, options.base_id.to_string()).is_err()
    {
        log!(Misc, Critical, "cannot open base id output file {} for writing.", options.base_id_path);
    }
}

/// `--mode validate`
fn validate(options: &Options, made: &Made) -> ExitCode {
    match build::validate(options, made) {
        Ok(()) => {
            // Envoy ignores a closed stdout, too.
            let _ = writeln!(std::io::stdout(), "configuration '{}' OK", options.config_path);
            ExitCode::SUCCESS
        }
        Err(e) => {
            log_lines!(
                Main,
                Critical,
                "error initializing configuration '{}': {}",
                options.config_path,
                e.phrase
            );
            log::flush();
            print_details(&e);
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options, made: &Arc<Made>) -> ExitCode {
    let outcome = log_to_file(options).and_then(|()| {
        announce(options, &made.registry);
        serve::serve(options, made)
    });
    match outcome {
        Ok(()) => {
            log!(Main, Info, "exiting");
            ExitCode::SUCCESS
        }
        Err(e) => {
            let what = format!("{} {}", options.config_yaml, options.config_path);
            log_lines!(Main, Critical, "error `{}` initializing config ' {what}'", e.phrase);
            log!(Main, Info, "exiting");
            log::flush();
            let _ = writeln!(std::io::stderr(), "{}", e.phrase);
            print_details(&e);
            ExitCode::FAILURE
        }
    }
}

/// What we know beyond Envoy's phrase. A closed stderr is nobody's loss.
fn print_details(e: &Refusal) {
    let mut err = std::io::stderr();
    for d in e.details.iter().filter(|d| **d != e.phrase) {
        let _ = writeln!(err, "{d}");
    }
}

fn log_to_file(options: &Options) -> Result<(), Refusal> {
    if options.log_path.is_empty() {
        return Ok(());
    }
    let path = &options.log_path;
    log::set_file(Path::new(path)).map_err(|e| {
        let why = std::io::Error::from(e.kind());
        let why = if e.kind() == std::io::ErrorKind::NotFound {
            "No such file or directory".into()
        } else {
            why.to_string()
        };
        let phrase =
            format!("Failed to open log-file '{path}'. e.what(): unable to open file '{path}': {why}");
        Refusal { phrase, details: Vec::new() }
    })
}

/// The first landmarks of the log.
fn announce(options: &Options, registry: &Registry) {
    let (epoch, id, version) = (options.restart_epoch, options.base_id, options.hot_restart_version());
    log!(Main, Info, "initializing epoch {epoch} (base id={id}, hot restart version={version})");
    log!(Main, Info, "statically linked extensions:");
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for (kind, e) in registry.iter() {
        match all.last_mut() {
            Some((category, names)) if *category == kind.category() => names.push(e.name),
            _ => all.push((kind.category(), vec![e.name])),
        }
    }
    for (category, names) in all {
        log!(Main, Info, "  {category}: {}", names.join(", "));
    }
}
