//! What is configured.

use super::grpc::Grpc;
use super::http::Http;
use super::payload::{self, Expected};
use super::redis::Redis;
use super::state::Rules;
use super::tcp::Tcp;
use super::thrift::Thrift;
use crate::proto::{self, duration_or};
use crate::upstream::cluster::UpstreamProtocol;
use nuncio_api::envoy::config::core::v3 as pb;
use nuncio_api::envoy::config::endpoint::v3::endpoint::HealthCheckConfig;
use nuncio_api::envoy::data::core::v3::HealthCheckerType;
use nuncio_api::envoy::extensions::health_check::event_sinks::file::v3::HealthCheckEventFileSink;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::{BuildCx, EventLog};
use nuncio_core::registry;
use nuncio_core::stats::Scope;
use pb::health_check::HealthChecker as H;
use pb::health_check::custom_health_check::ConfigType;
use std::time::Duration;

/// What is read of `HealthCheck`.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.HealthCheck",
        &[
            "name",
            "timeout",
            "interval",
            "initial_jitter",
            "interval_jitter",
            "interval_jitter_percent",
            "unhealthy_threshold",
            "healthy_threshold",
            "reuse_connection",
            "http_health_check",
            "tcp_health_check",
            "grpc_health_check",
            "custom_health_check",
            "no_traffic_interval",
            "no_traffic_healthy_interval",
            "unhealthy_interval",
            "unhealthy_edge_interval",
            "healthy_edge_interval",
            "event_log_path",
            "event_logger",
            "always_log_health_check_failures",
            "always_log_health_check_success",
            "tls_options",
            "transport_socket_match_criteria",
        ],
    )
    .ignoring(&[("alt_port", "Envoy does not read it either")]),
    Covered::new("envoy.config.core.v3.HealthCheck.Payload", &["text", "binary"]),
    Covered::new("envoy.config.core.v3.HealthCheck.CustomHealthCheck", &["name", "typed_config"]),
    Covered::new(
        "envoy.config.core.v3.HealthCheck.HttpHealthCheck",
        &[
            "host",
            "path",
            "send",
            "receive",
            "response_buffer_size",
            "request_headers_to_add",
            "request_headers_to_remove",
            "expected_statuses",
            "retriable_statuses",
            "codec_client_type",
            "service_name_matcher",
            "method",
        ],
    ),
    Covered::new("envoy.config.core.v3.HealthCheck.TcpHealthCheck", &["send", "receive"]),
    Covered::new(
        "envoy.config.core.v3.HealthCheck.GrpcHealthCheck",
        &["service_name", "authority", "initial_metadata"],
    ),
    Covered::new("envoy.config.core.v3.HealthCheck.TlsOptions", &["alpn_protocols"]),
    Covered::new("envoy.extensions.health_checkers.redis.v3.Redis", &["key"]),
    Covered::new(
        "envoy.extensions.health_checkers.thrift.v3.Thrift",
        &["method_name", "transport", "protocol"],
    ),
    Covered::new(
        "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
        &["event_log_path"],
    ),
    Covered::new(
        "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig",
        &["port_value", "hostname", "address", "disable_active_health_check"],
    ),
];

/// How hosts are asked.
pub(super) enum Kind {
    Http(Box<Http>),
    Tcp(Box<Tcp>),
    Grpc(Box<Grpc>),
    Redis(Box<Redis>),
    Thrift(Box<Thrift>),
}

impl Kind {
    pub(super) fn pb(&self) -> HealthCheckerType {
        match self {
            Kind::Http(_) => HealthCheckerType::Http,
            Kind::Tcp(_) => HealthCheckerType::Tcp,
            Kind::Grpc(_) => HealthCheckerType::Grpc,
            Kind::Redis(_) => HealthCheckerType::Redis,
            Kind::Thrift(_) => HealthCheckerType::Thrift,
        }
    }
}

/// `HealthCheck`
pub struct Config {
    pub(super) name: Box<str>,
    /// `transport_socket_match_criteria`, in place of the host's own.
    pub(super) labels: Option<prost_types::Struct>,
    pub(super) kind: Kind,
    pub(super) rules: Rules,
    pub(super) timeout: Duration,
    pub(super) reuse_connection: bool,
    pub(super) logs: Vec<EventLog>,
}

impl Config {
    /// Reads the message; `scope` is the cluster's.
    ///
    /// # Errors
    /// It is refused.
    pub fn new(
        h: &pb::HealthCheck,
        cluster: &str,
        protocol: UpstreamProtocol,
        scope: &Scope,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Config> {
        let runtime = cx.server.runtime();
        let kind = match &h.health_checker {
            Some(H::HttpHealthCheck(c)) => Kind::Http(Box::new(Http::new(c, &runtime)?)),
            Some(H::TcpHealthCheck(c)) => {
                let send = c.send.as_ref().map(payload::bytes).transpose()?.unwrap_or_default();
                Kind::Tcp(Box::new(Tcp { send: send.into(), receive: Expected::new(&c.receive)? }))
            }
            Some(H::GrpcHealthCheck(c)) if protocol.has_http2() => Kind::Grpc(Box::new(Grpc::new(c)?)),
            Some(H::GrpcHealthCheck(_)) => {
                let text = format!("{cluster} cluster must support HTTP/2 for gRPC healthchecking");
                return Err(BuildError(text));
            }
            Some(H::CustomHealthCheck(c)) => custom(c, scope, cx)?,
            None => return Err("invalid cluster config".into()),
        };
        let ms = |d: Duration| Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let time = |v: &Option<prost_types::Duration>, default: Duration| duration_or(v, default).map(ms);
        let interval = time(&h.interval, Duration::ZERO)?;
        let no_traffic_interval = time(&h.no_traffic_interval, Duration::from_secs(60))?;
        let unhealthy_interval = time(&h.unhealthy_interval, interval)?;
        Ok(Config {
            name: h.name.as_str().into(),
            labels: h.transport_socket_match_criteria.clone(),
            kind,
            rules: Rules {
                unhealthy_threshold: h.unhealthy_threshold.unwrap_or(0),
                healthy_threshold: h.healthy_threshold.unwrap_or(0),
                interval,
                initial_jitter: time(&h.initial_jitter, Duration::ZERO)?,
                interval_jitter: time(&h.interval_jitter, Duration::ZERO)?,
                interval_jitter_percent: h.interval_jitter_percent,
                no_traffic_interval,
                no_traffic_healthy_interval: time(&h.no_traffic_healthy_interval, no_traffic_interval)?,
                unhealthy_interval,
                unhealthy_edge_interval: time(&h.unhealthy_edge_interval, unhealthy_interval)?,
                healthy_edge_interval: time(&h.healthy_edge_interval, interval)?,
                always_log_health_check_failures: h.always_log_health_check_failures,
                always_log_health_check_success: h.always_log_health_check_success,
                limits: [("min_interval", 0), ("max_interval", u64::MAX)]
                    .map(|(k, n)| runtime.number(&format!("health_check.{k}"), n)),
            },
            timeout: time(&h.timeout, Duration::ZERO)?,
            reuse_connection: h.reuse_connection.unwrap_or(true),
            logs: logs(h, cx)?,
        })
    }
}

/// `custom_health_check`
fn custom(c: &pb::health_check::CustomHealthCheck, scope: &Scope, cx: &BuildCx<'_>) -> BuildResult<Kind> {
    let none = prost_types::Any::default();
    let any = match &c.config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        None => &none,
    };
    cx.registry.find::<()>(registry::Kind::HealthChecker, &c.name, &any.type_url)?;
    match any.type_url.rsplit('/').next() {
        Some("envoy.extensions.health_checkers.redis.v3.Redis") => {
            Ok(Kind::Redis(Box::new(Redis::new(&proto::unpack(any)?, scope))))
        }
        Some("envoy.extensions.health_checkers.thrift.v3.Thrift") => {
            Ok(Kind::Thrift(Box::new(Thrift::new(&proto::unpack(any)?)?)))
        }
        // The others have fields of their own.
        _ => Err(BuildError::not_implemented(&c.name)),
    }
}

fn logs(h: &pb::HealthCheck, cx: &BuildCx<'_>) -> BuildResult<Vec<EventLog>> {
    let open = |path: &str| match cx.validate_only {
        true => Ok(std::rc::Rc::new(|_: &str| {}) as EventLog),
        false => cx.server.open_log(path, cx.scope.store()),
    };
    let mut logs = vec![];
    if !h.event_log_path.is_empty() {
        logs.push(open(&h.event_log_path)?);
    }
    for e in &h.event_logger {
        let any = e.typed_config.as_ref();
        let file = any.filter(|a| {
            a.type_url
                .ends_with("/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink")
        });
        let Some(any) = file else { return Err(BuildError::not_implemented(&e.name)) };
        logs.push(open(&proto::unpack::<HealthCheckEventFileSink>(any)?.event_log_path)?);
    }
    Ok(logs)
}

/// `Endpoint.health_check_config`: how a host is checked other than its cluster's hosts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `address`, in place of the host's.
    pub address: Option<Address>,
    /// `port_value`, in place of the address's; 0 for that.
    pub port: u16,
    /// `hostname`, empty for the cluster's.
    pub hostname: String,
    /// `disable_active_health_check`
    pub disabled: bool,
}

impl Target {
    /// Reads the message; `None` when it says nothing.
    ///
    /// # Errors
    /// A bad address.
    pub fn new(c: Option<&HealthCheckConfig>) -> BuildResult<Option<Box<Target>>> {
        let Some(c) = c else { return Ok(None) };
        let port = u16::try_from(c.port_value).map_err(|_| "invalid port of a health check")?;
        let t = Target {
            address: c.address.as_deref().map(proto::address).transpose()?,
            port,
            hostname: c.hostname.clone(),
            disabled: c.disable_active_health_check,
        };
        Ok((t != Target::default()).then(|| Box::new(t)))
    }
}
