//! What loggers that send entries to a gRPC access log service share: [`entry`] makes the messages, [`reporter`] collects
//! and sends them.

pub mod entry;
pub mod reporter;

use nuncio_api::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use nuncio_core::BuildResult;
use nuncio_core::coverage::Covered;

/// What is read of the part of the configuration that both have.
pub const COVERED: Covered = Covered::new(
    "envoy.extensions.access_loggers.grpc.v3.CommonGrpcAccessLogConfig",
    &[
        "log_name",
        "grpc_service",
        "transport_api_version",
        "buffer_flush_interval",
        "buffer_size_bytes",
        "filter_state_objects_to_log",
        "grpc_stream_retry_policy",
        "custom_tags",
    ],
);

/// The part of the configuration that both have, of a version that there is.
///
/// # Errors
/// There is none, or its version is not V3.
pub fn common(c: Option<Box<CommonGrpcAccessLogConfig>>) -> BuildResult<CommonGrpcAccessLogConfig> {
    let c = c.ok_or("field: \"common_config\", reason: is required")?;
    if c.transport_api_version != 2 {
        return Err("V2 .and AUTO xDS transport protocol versions are deprecated in grpc_service".into());
    }
    Ok(*c)
}
