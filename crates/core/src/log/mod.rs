//! The server's own log: Envoy's logger names, levels and line format.
//!
//! `log!(Main, Info, "text {}", x)` costs one relaxed load when the level is off. A line that is written is formatted
//! on the calling thread and handed to a writer thread through a bounded buffer (`sink`), so that a stalled disk or
//! terminal never stalls a worker; lines that do not fit are counted and reported. Before the writer has been started
//! lines go out at once.
//!
//! Control characters in a message are escaped, so that nothing a peer sends can forge a line; a text of several lines
//! that the server composes itself is written with [`log_lines!`](crate::log_lines). Time is UTC.
//!
//! One log per process: servers that share a process (tests) share it.

mod loggers;
mod pattern;
mod sink;
#[cfg(test)]
mod tests;
mod time;

pub use loggers::Logger;
pub use pattern::Pattern;
pub use sink::{flush, reopen, set_file, start_writer};

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// How much a line matters. Envoy's names: `trace`, `debug`, `info`, `warning` (also `warn`), `error`, `critical`, `off`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Everything.
    Trace,
    /// For debugging.
    Debug,
    /// The default.
    Info,
    /// Something is odd.
    Warning,
    /// Something failed.
    Error,
    /// The server cannot go on.
    Critical,
    /// As a threshold: nothing.
    Off,
}

/// All levels, lowest first.
pub const LEVELS: [Level; 7] =
    [Level::Trace, Level::Debug, Level::Info, Level::Warning, Level::Error, Level::Critical, Level::Off];

impl Level {
    /// The name that Envoy prints.
    pub fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Off => "off",
        }
    }
    /// The level with this name; `warn` is `warning`.
    pub fn from_name(name: &str) -> Option<Level> {
        if name == "warn" {
            return Some(Level::Warning);
        }
        LEVELS.into_iter().find(|l| l.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Envoy's default of `--log-format`.
pub const DEFAULT_FORMAT: &str = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

/// Threshold of each logger.
static THRESHOLDS: [AtomicU8; Logger::COUNT] = [const { AtomicU8::new(Level::Info as u8) }; Logger::COUNT];

/// How lines look; the default format until [`set_format`].
static FORMAT: RwLock<Option<Arc<Format>>> = RwLock::new(None);

struct Format {
    pattern: Pattern,
    escaped: bool,
}

/// True when a line of this logger and level would be written.
#[inline]
pub fn enabled(logger: Logger, level: Level) -> bool {
    level as u8 >= THRESHOLDS[logger as usize].load(Relaxed)
}

/// The threshold of a logger.
pub fn level(logger: Logger) -> Level {
    let n = THRESHOLDS[logger as usize].load(Relaxed);
    LEVELS.get(usize::from(n)).copied().unwrap_or(Level::Off)
}

/// Sets the threshold of a logger.
pub fn set_level(logger: Logger, level: Level) {
    THRESHOLDS[logger as usize].store(level as u8, Relaxed);
}

/// Sets the threshold of every logger.
pub fn set_all(level: Level) {
    for l in Logger::all() {
        set_level(l, level);
    }
}

/// Sets how lines look: `--log-format` and `--log-format-escaped`.
pub fn set_format(format: &str, escaped: bool) {
    let f = Some(Arc::new(Format { pattern: Pattern::parse(format), escaped }));
    // A poisoned lock still guards a whole `Arc`.
    *FORMAT.write().unwrap_or_else(|e| e.into_inner()) = f;
}

fn format() -> Arc<Format> {
    if let Some(f) = &*FORMAT.read().unwrap_or_else(|e| e.into_inner()) {
        return f.clone();
    }
    Arc::new(Format { pattern: Pattern::parse(DEFAULT_FORMAT), escaped: false })
}

/// Where a line comes from; made by the macros.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// `file!()`.
    pub file: &'static str,
    /// `line!()`.
    pub line: u32,
    /// `module_path!()`, in the place of Envoy's function name.
    pub module: &'static str,
}

/// One line before it is formatted.
pub struct Record<'a> {
    /// The level.
    pub level: Level,
    /// The logger's name.
    pub logger: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// When, since 1970-01-01 UTC.
    pub at: std::time::Duration,
    /// Time since the process's previous line.
    pub elapsed: std::time::Duration,
    /// The operating system's id of the thread.
    pub thread: u32,
    /// The text.
    pub message: &'a str,
}

/// Writes a line; callers use the macros. `lines` keeps line breaks in the text.
pub fn write(logger: Logger, level: Level, source: Source, lines: bool, text: fmt::Arguments<'_>) {
    let message = pattern::printable(&text.to_string(), lines);
    let (at, elapsed) = time::now();
    let r = Record {
        level,
        logger: logger.name(),
        source,
        at,
        elapsed,
        thread: time::thread_id(),
        message: &message,
    };
    let f = format();
    let mut line = String::with_capacity(message.len() + 96);
    f.pattern.render(&r, &mut line);
    if f.escaped {
        line = pattern::c_escape(line.trim_end());
    }
    line.push('\n');
    sink::put(line);
}

/// Writes a line to the server's log: `log!(Upstream, Debug, "cluster {name} added")`.
#[macro_export]
macro_rules! log {
    ($logger:ident, $level:ident, $($text:tt)+) => {
        $crate::log_line!($logger, $level, false, $($text)+)
    };
    (Logger::$logger:ident, Level::$level:ident, $($text:tt)+) => {
        $crate::log_line!($logger, $level, false, $($text)+)
    };
}

/// As [`log!`](crate::log!), for a text of several lines that holds nothing a peer has sent.
#[macro_export]
macro_rules! log_lines {
    ($logger:ident, $level:ident, $($text:tt)+) => {
        $crate::log_line!($logger, $level, true, $($text)+)
    };
}

/// What [`log!`](crate::log!) and [`log_lines!`](crate::log_lines) share.
#[doc(hidden)]
#[macro_export]
macro_rules! log_line {
    ($logger:ident, $level:ident, $lines:literal, $($text:tt)+) => {
        if $crate::log::enabled($crate::log::Logger::$logger, $crate::log::Level::$level) {
            let source = $crate::log::Source { file: file!(), line: line!(), module: module_path!() };
            let (logger, level) = ($crate::log::Logger::$logger, $crate::log::Level::$level);
            $crate::log::write(logger, level, source, $lines, format_args!($($text)+));
        }
    };
}
