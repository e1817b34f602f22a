//! Access loggers (`envoy.access_loggers`), and the files and services they write to.
//!
//! Workers append lines to a buffer; one thread writes all files, so that no worker ever waits for a disk or a pipe.
//! See [`files`]. Entries for a service wait on each worker; see [`grpc`].

pub mod files;
mod grpc;

pub use files::{FilesystemStats, flush, reopen, set_flush_interval, set_flush_min_size};

use files::LogFile;
use nuncio_api::envoy::config::core::v3::SubstitutionFormatString;
use nuncio_core::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use std::cell::RefCell;
use std::sync::Arc;

extensions![file, stdout, stderr, http_grpc, tcp_grpc, open_telemetry];

/// What every logger here does: make a line, append it to a file.
struct Lines {
    format: Formatter,
    file: Arc<LogFile>,
}

impl Lines {
    fn new(format: Formatter, path: &str, cx: &BuildCx<'_>) -> BuildResult<Lines> {
        Ok(Lines { format, file: files::open(path, cx.scope.store())? })
    }
    fn log(&self, entry: &FormatCx<'_>) {
        thread_local!(static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        // Formatting calls nothing that logs, so the buffer is free.
        LINE.with_borrow_mut(|line| {
            line.clear();
            self.format.append(entry, line);
            self.file.append(line);
        });
    }
}

/// The format of a logger that has only `log_format`.
fn formatter(log_format: Option<&SubstitutionFormatString>) -> BuildResult<Formatter> {
    match log_format {
        Some(f) => Formatter::new(f, Purpose::Log),
        None => Ok(Formatter::default_access_log()),
    }
}
