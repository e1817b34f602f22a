use super::{Lines, formatter};
use nuncio_api::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use nuncio_api::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat as F;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::FormatCx;
use nuncio_core::kinds::AccessLogger;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};

/// Its well-known name.
pub const NAME: &str = "envoy.access_loggers.stdout";

/// What is read of its configuration.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", &["log_format"])];

/// Registers the logger.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.access_logger::<Stdout>(NAME, docs);
}

/// The logger.
pub struct Stdout(Lines);

impl AccessLogger for Stdout {
    type Config = StdoutAccessLog;

    fn new(config: StdoutAccessLog, cx: &BuildCx<'_>) -> BuildResult<Stdout> {
        let format = config.access_log_format.as_ref().map(|F::LogFormat(f)| &**f);
        Ok(Stdout(Lines::new(formatter(format)?, super::files::STDOUT, cx)?))
    }
    fn log(&self, entry: &FormatCx<'_>) {
        self.0.log(entry);
    }
}

#[cfg(test)]
mod tests;
