//! What loggers that send entries to a gRPC access log service share: [`entry`] makes the messages, [`reporter`] collects
//! and sends them.

pub mod entry;
pub mod reporter;

use nuncio_api::envoy::config::core::v3 as core;
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

/// The service, with `grpc_stream_retry_policy`.
///
/// # Errors
/// There is none.
pub fn service(c: &CommonGrpcAccessLogConfig) -> BuildResult<core::GrpcService> {
    let mut service =
        c.grpc_service.as_deref().cloned().ok_or("field: \"grpc_service\", reason: is required")?;
    if let Some(p) = &c.grpc_stream_retry_policy {
        service.retry_policy = Some(Box::new(core::RetryPolicy {
            retry_on: "connect-failure".to_owned(),
            num_retries: p.num_retries,
            retry_back_off: p.retry_back_off,
            ..Default::default()
        }));
    }
    Ok(service)
}
