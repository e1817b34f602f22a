use super::{Lines, formatter};
use nuncio_api::envoy::extensions::access_loggers::stream::v3::StderrAccessLog;
use nuncio_api::envoy::extensions::access_loggers::stream::v3::stderr_access_log::AccessLogFormat as F;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::FormatCx;
use nuncio_core::kinds::AccessLogger;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};

/// Its well-known name.
pub const NAME: &str = "envoy.access_loggers.stderr";

/// What is read of its configuration.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.access_loggers.stream.v3.StderrAccessLog", &["log_format"])];

/// Registers the logger.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.access_logger::<Stderr>(NAME, docs);
}

/// The logger.
pub struct Stderr(Lines);

impl AccessLogger for Stderr {
    type Config = StderrAccessLog;

    fn new(config: StderrAccessLog, cx: &BuildCx<'_>) -> BuildResult<Stderr> {
        let format = config.access_log_format.as_ref().map(|F::LogFormat(f)| &**f);
        Ok(Stderr(Lines::new(formatter(format)?, super::files::STDERR, cx)?))
    }
    fn log(&self, entry: &FormatCx<'_>) {
        self.0.log(entry);
    }
}

#[cfg(test)]
mod tests;
