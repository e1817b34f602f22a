//! The command line: Envoy's 43 options and ours.
//!
//! [`args`] reads it, this file says what it means, [`usage`] lays out help and errors, [`table`] holds the options.
//! Phrases, exit codes and the order of the checks are Envoy's.

mod args;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use args::{Parsed, Raw};
use nuncio_control::options::{DrainStrategy, Mode, Options};
use nuncio_control::version;
use nuncio_core::log::{Level, Logger};
use std::time::Duration;

/// What the command line leads to.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Run a server.
    Run(Box<Options>),
    /// Print something and exit.
    Exit(Exit),
}

/// A text and an exit code.
#[derive(Debug, PartialEq, Default)]
pub struct Exit {
    /// For stdout.
    pub out: String,
    /// For stderr.
    pub err: String,
    /// The process's exit code.
    pub code: u8,
}

/// Reads the command line; `program` is its first word, `extra` goes into the help.
pub fn parse(program: &str, args: &[String], extra: &str) -> Command {
    let exit = |out: String, err: String, code| Command::Exit(Exit { out, err, code });
    match args::parse(args) {
        Parsed::Help => exit(usage::help(program, extra), String::new(), 0),
        Parsed::Version => exit(format!("\n{program}  version: {}\n\n", version::full()), String::new(), 0),
        Parsed::Error(id, what) => exit(String::new(), usage::parse_error(program, &id, &what), 1),
        Parsed::Options(raw) => match options(&raw) {
            Err(e) => exit(String::new(), format!("error: {e}\n"), 1),
            Ok(o) if raw.has("hot-restart-version") => {
                exit(String::new(), format!("{}\n", o.hot_restart_version()), 0)
            }
            Ok(o) => Command::Run(Box::new(o)),
        },
    }
}

fn options(raw: &Raw) -> Result<Options, String> {
    let text = |name: &str| raw.text(name).unwrap_or_default().to_owned();
    let seconds = |name, default| raw.number(name).map_or(default, |n| Duration::from_secs(n.into()));
    let d = Options::default();
    let component_log_level = text("component-log-level");
    if raw.has("enable-fine-grain-logging") && !component_log_level.is_empty() {
        // Envoy checks the level first.
        raw.text("log-level").map(log_level).transpose()?;
        return Err("--component-log-level will not work with --enable-fine-grain-logging".to_owned());
    }
    let mut o = Options {
        log_level: raw.text("log-level").map_or(Ok(d.log_level), log_level)?,
        component_log_levels: component_log_levels(&component_log_level)?,
        component_log_level,
        mode: mode(raw.text("mode"))?,
        local_address_v6: match raw.text("local-address-ip-version") {
            None | Some("v4") => false,
            Some("v6") => true,
            Some(other) => return Err(format!("unknown IP address version '{other}'")),
        },
        config_path: text("config-path"),
        config_yaml: text("config-yaml"),
        concurrency: raw.number("concurrency").map(|n| n.max(1)),
        cpuset_threads: raw.has("cpuset-threads"),
        log_format: raw.text("log-format").map_or(d.log_format, str::to_owned),
        log_format_escaped: raw.has("log-format-escaped"),
        log_path: text("log-path"),
        fine_grain_logging: raw.has("enable-fine-grain-logging"),
        log_stacktrace_single_entry: raw.has("log-stacktrace-single-entry"),
        service_cluster: text("service-cluster"),
        service_node: text("service-node"),
        service_zone: text("service-zone"),
        base_id: raw.number("base-id").unwrap_or(d.base_id),
        use_dynamic_base_id: raw.has("use-dynamic-base-id"),
        base_id_path: text("base-id-path"),
        restart_epoch: raw.number("restart-epoch").unwrap_or(d.restart_epoch),
        disable_hot_restart: raw.has("disable-hot-restart"),
        skip_hot_restart_on_no_parent: raw.has("skip-hot-restart-on-no-parent"),
        skip_hot_restart_parent_stats: raw.has("skip-hot-restart-parent-stats"),
        socket_path: raw.text("socket-path").map_or(d.socket_path, str::to_owned),
        socket_mode: d.socket_mode,
        admin_address_path: text("admin-address-path"),
        drain_time: seconds("drain-time-s", d.drain_time),
        drain_strategy: d.drain_strategy,
        parent_shutdown_time: seconds("parent-shutdown-time-s", d.parent_shutdown_time),
        file_flush_interval: raw
            .number("file-flush-interval-msec")
            .map_or(d.file_flush_interval, |n| Duration::from_millis(n.into())),
        file_flush_min_size_kb: raw.number("file-flush-min-size-kb").unwrap_or(d.file_flush_min_size_kb),
        allow_unknown_static_fields: raw.has("allow-unknown-static-fields")
            || raw.has("allow-unknown-fields"),
        reject_unknown_dynamic_fields: raw.has("reject-unknown-dynamic-fields"),
        ignore_unknown_dynamic_fields: raw.has("ignore-unknown-dynamic-fields"),
        skip_deprecated_logs: raw.has("skip-deprecated-logs"),
        disabled_extensions: Vec::new(),
        enable_mutex_tracing: raw.has("enable-mutex-tracing"),
        enable_core_dump: raw.has("enable-core-dump"),
        stats_tags: Vec::new(),
        graceful_shutdown: seconds("graceful-shutdown-s", d.graceful_shutdown),
        watch: raw.has("watch"),
        warnings: Vec::new(),
    };
    if o.use_dynamic_base_id && o.restart_epoch > 0 {
        return Err(format!("cannot use --restart-epoch={} with --use-dynamic-base-id", o.restart_epoch));
    }
    warnings(raw, &mut o);
    if !o.socket_path.starts_with('@') {
        let mode = raw.text("socket-mode").unwrap_or("600");
        o.socket_mode = u32::from_str_radix(mode, 8).map_err(|_| format!("invalid socket-mode '{mode}'"))?;
    }
    o.drain_strategy = match raw.text("drain-strategy") {
        None | Some("gradual") => DrainStrategy::Gradual,
        Some("immediate") => DrainStrategy::Immediate,
        // Envoy names the mode here, and scripts may look for what it says.
        Some(_) => return Err(format!("unknown drain-strategy '{}'", raw.text("mode").unwrap_or("serve"))),
    };
    if let Some(list) = raw.text("disable-extensions").filter(|l| !l.is_empty()) {
        o.disabled_extensions = list.split(',').map(str::to_owned).collect();
    }
    if !raw.has("hot-restart-version") {
        o.stats_tags = raw.all("stats-tag").map(stats_tag).collect::<Result<_, _>>()?;
    }
    Ok(o)
}

fn warnings(raw: &Raw, o: &mut Options) {
    if o.concurrency.is_some() && o.cpuset_threads {
        let both = "Both --concurrency and --cpuset-threads options are set; not applying --cpuset-threads.";
        o.warnings.push(both.to_owned());
    }
    if raw.has("allow-unknown-fields") && !o.skip_deprecated_logs {
        let old = "--allow-unknown-fields is deprecated, use --allow-unknown-static-fields instead.";
        o.warnings.push(old.to_owned());
    }
}

fn mode(text: Option<&str>) -> Result<Mode, String> {
    match text {
        None | Some("serve") => Ok(Mode::Serve),
        Some("validate") => Ok(Mode::Validate),
        Some("init_only") => Ok(Mode::InitOnly),
        Some(other) => Err(format!("unknown mode '{other}'")),
    }
}

fn log_level(name: &str) -> Result<Level, String> {
    Level::from_name(name).ok_or_else(|| format!("invalid log level specified '{name}'"))
}

fn component_log_levels(list: &str) -> Result<Vec<(Logger, Level)>, String> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let one = |item: &str| {
        let parts = item.split_once(':').filter(|(_, level)| !level.contains(':'));
        let (name, level) =
            parts.ok_or_else(|| format!("component log level not correctly specified '{item}'"))?;
        let level = log_level(level)?;
        let logger =
            Logger::from_name(name).ok_or_else(|| format!("invalid component specified '{name}'"))?;
        Ok((logger, level))
    };
    list.split(',').map(one).collect()
}

fn stats_tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("misformatted stats-tag '{text}'"))?;
    let bad = |part: &str| Err(format!("misformatted stats-tag '{text}' contains invalid char in '{part}'"));
    if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return bad(name);
    }
    if value.is_empty() || value.contains('.') {
        return bad(value);
    }
    Ok((name.to_owned(), value.to_owned()))
}
