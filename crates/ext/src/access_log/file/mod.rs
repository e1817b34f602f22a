use super::{Lines, formatter};
use nuncio_api::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use nuncio_api::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat as F;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use nuncio_core::kinds::AccessLogger;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};

/// Its well-known name.
pub const NAME: &str = "envoy.access_loggers.file";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    &["path", "format", "json_format", "typed_json_format", "log_format"],
)];

/// Registers the logger.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.access_logger::<File>(NAME, docs);
}

/// The logger.
pub struct File(Lines);

impl AccessLogger for File {
    type Config = FileAccessLog;

    fn new(config: FileAccessLog, cx: &BuildCx<'_>) -> BuildResult<File> {
        let format = match &config.access_log_format {
            Some(F::Format(f)) if !f.is_empty() => Formatter::text(f, Purpose::Log)?,
            Some(F::JsonFormat(s) | F::TypedJsonFormat(s)) => Formatter::json(s, Purpose::Log)?,
            Some(F::LogFormat(f)) => formatter(Some(f))?,
            Some(F::Format(_)) | None => formatter(None)?,
        };
        Ok(File(Lines::new(format, &config.path, cx)?))
    }
    fn log(&self, entry: &FormatCx<'_>) {
        self.0.log(entry);
    }
}

#[cfg(test)]
mod tests;
