use super::grpc;
use super::grpc::entry::{Common, tcp};
use super::grpc::reporter::{About, Reporter};
use nuncio_api::envoy::extensions::access_loggers::grpc::v3::TcpGrpcAccessLogConfig;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::FormatCx;
use nuncio_core::kinds::AccessLogger;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};

/// Its well-known name.
pub const NAME: &str = "envoy.access_loggers.tcp_grpc";

/// What is read of its configuration.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig", &["common_config"])];

/// Registers the logger.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.access_logger::<TcpGrpc>(NAME, docs);
}

/// The logger.
pub struct TcpGrpc {
    common: Common,
    reporter: Reporter,
}

impl AccessLogger for TcpGrpc {
    type Config = TcpGrpcAccessLogConfig;

    fn new(c: TcpGrpcAccessLogConfig, cx: &BuildCx<'_>) -> BuildResult<TcpGrpc> {
        let common = grpc::common(c.common_config)?;
        Ok(TcpGrpc {
            reporter: Reporter::new(&common, About::Connections, cx)?,
            common: Common::new(&common)?,
        })
    }
    fn log(&self, entry: &FormatCx<'_>) {
        self.reporter.report(&tcp(entry, &self.common));
    }
}

#[cfg(test)]
mod tests;
