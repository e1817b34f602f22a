use super::grpc::entry::{Common, header_names, http};
use super::grpc::reporter::{About, Reporter};
use super::grpc::{self, entry};
use nuncio_api::envoy::extensions::access_loggers::grpc::v3::HttpGrpcAccessLogConfig;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::FormatCx;
use nuncio_core::kinds::AccessLogger;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Registry};

/// Its well-known name.
pub const NAME: &str = "envoy.access_loggers.http_grpc";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        &[
            "common_config",
            "additional_request_headers_to_log",
            "additional_response_headers_to_log",
            "additional_response_trailers_to_log",
        ],
    ),
    grpc::COVERED,
];

/// Registers the logger.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.access_logger::<HttpGrpc>(NAME, docs);
}

/// The logger.
pub struct HttpGrpc {
    common: Common,
    headers: entry::Headers,
    reporter: Reporter,
}

impl AccessLogger for HttpGrpc {
    type Config = HttpGrpcAccessLogConfig;

    fn new(c: HttpGrpcAccessLogConfig, cx: &BuildCx<'_>) -> BuildResult<HttpGrpc> {
        let common = grpc::common(c.common_config)?;
        Ok(HttpGrpc {
            reporter: Reporter::new(&common, About::Requests, cx)?,
            common: Common::new(&common)?,
            headers: entry::Headers {
                request: header_names(&c.additional_request_headers_to_log),
                response: header_names(&c.additional_response_headers_to_log),
                trailers: header_names(&c.additional_response_trailers_to_log),
            },
        })
    }
    fn log(&self, entry: &FormatCx<'_>) {
        self.reporter.report(&http(entry, &self.common, &self.headers));
    }
}

#[cfg(test)]
mod tests;
