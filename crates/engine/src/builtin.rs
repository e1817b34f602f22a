//! What Envoy has as extensions and the engine has built in: registered so that `/server_info` lists it and
//! `--disable-extensions` can name it. No factory: the engine's builders know these types themselves.

use crate::router::retry::Predicate;
use crate::router::retry::policy::PREVIOUS_PRIORITIES;
use crate::upstream::lb::config::EXTENSIONS;
use nuncio_core::registry::{Docs, Kind, Registry};

const DNS: &str = "envoy.extensions.network.dns_resolver";
const TLS: &str = "envoy.extensions.transport_sockets.tls.v3";

/// Registers what is built in.
pub fn register(r: &mut Registry) {
    let mut add = |kind, name, types: &[&str], text| {
        let types = types.iter().map(|t| (*t).to_owned()).collect();
        r.insert(kind, name, types, Docs { text, example: "" }, ());
    };
    add(
        Kind::HttpFilter,
        "envoy.filters.http.router",
        &["envoy.extensions.filters.http.router.v3.Router"],
        "Sends a request to the cluster of its route.",
    );
    add(
        Kind::UpstreamHttpFilter,
        "envoy.filters.http.upstream_codec",
        &["envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"],
        "Sends a request to the host that was chosen for it.",
    );
    add(
        Kind::NetworkFilter,
        "envoy.filters.network.http_connection_manager",
        &["envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"],
        "Makes HTTP requests of a connection's bytes.",
    );
    add(
        Kind::NetworkFilter,
        "envoy.filters.network.tcp_proxy",
        &["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"],
        "Sends a connection's bytes to a host of a cluster, and back.",
    );
    let raw = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let sockets = [
        (Kind::DownstreamTransportSocket, format!("{TLS}.DownstreamTlsContext")),
        (Kind::UpstreamTransportSocket, format!("{TLS}.UpstreamTlsContext")),
    ];
    for (kind, tls) in sockets {
        add(kind, "envoy.transport_sockets.raw_buffer", &[raw], "Plain bytes.");
        add(kind, "envoy.transport_sockets.tls", &[&tls], "TLS.");
    }
    add(
        Kind::UpstreamTransportSocket,
        "envoy.transport_sockets.upstream_proxy_protocol",
        &["envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"],
        "A PROXY header with the client's address, then another transport (`pass_through_tlvs` is refused).",
    );
    add(
        Kind::UpstreamOptions,
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        &["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"],
        "HTTP options of a cluster.",
    );
    for (name, types, text) in [
        ("envoy.cluster.static", &[][..], "Hosts at the addresses of the configuration (`type: STATIC`)."),
        ("envoy.cluster.strict_dns", &[], "A host for each address of a name (`type: STRICT_DNS`)."),
        ("envoy.cluster.logical_dns", &[], "One host with all addresses of a name (`type: LOGICAL_DNS`)."),
        (
            "envoy.cluster.original_dst",
            &[],
            "To where a request was sent before it came here (`type: ORIGINAL_DST`).",
        ),
        (
            "envoy.clusters.aggregate",
            &["envoy.extensions.clusters.aggregate.v3.ClusterConfig"],
            "Other clusters, which stand in for each other.",
        ),
        (
            "envoy.clusters.dynamic_forward_proxy",
            &["envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"],
            "To where a request's authority leads (`sub_clusters_config` and `allow_coalesced_connections` are refused).",
        ),
        (
            "envoy.cluster.dns",
            &["envoy.extensions.clusters.dns.v3.DnsCluster"][..],
            "Either of the two before.",
        ),
    ] {
        add(Kind::Cluster, name, types, text);
    }
    for (name, ty, text) in EXTENSIONS {
        let ty = format!("envoy.extensions.load_balancing_policies.{ty}");
        add(Kind::LoadBalancingPolicy, name, &[&ty], text);
    }
    for (name, ty) in [
        ("envoy.network.dns_resolver.cares", "cares.v3.CaresDnsResolverConfig"),
        ("envoy.network.dns_resolver.getaddrinfo", "getaddrinfo.v3.GetAddrInfoDnsResolverConfig"),
    ] {
        add(
            Kind::DnsResolver,
            name,
            &[&format!("{DNS}.{ty}")],
            "Resolves names; the resolver is the same for both.",
        );
    }
    add(
        Kind::HeaderFormatter,
        "envoy.http.stateful_header_formatters.preserve_case",
        &["envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"],
        "Keeps the case of header names of HTTP/1 (`forward_reason_phrase` is refused).",
    );
    add(
        Kind::RetryPriority,
        "envoy.retry_priorities.previous_priorities",
        &[PREVIOUS_PRIORITIES],
        "Retries in priorities that were not tried for the request.",
    );
    const OF_CLUSTER: &str = "envoy.config.core.v3.HealthCheck";
    const CUSTOM: &str = "envoy.extensions.health_checkers";
    for (name, ty, text) in [
        (
            "envoy.health_checkers.http",
            format!("{OF_CLUSTER}.HttpHealthCheck"),
            "Asks by HTTP (`http_health_check`).",
        ),
        (
            "envoy.health_checkers.tcp",
            format!("{OF_CLUSTER}.TcpHealthCheck"),
            "Connects, and may say something (`tcp_health_check`).",
        ),
        (
            "envoy.health_checkers.grpc",
            format!("{OF_CLUSTER}.GrpcHealthCheck"),
            "Asks `grpc.health.v1.Health` (`grpc_health_check`).",
        ),
        (
            "envoy.health_checkers.redis",
            format!("{CUSTOM}.redis.v3.Redis"),
            "Sends `PING`, or asks that a key does not exist (`aws_iam` is refused).",
        ),
        (
            "envoy.health_checkers.thrift",
            format!("{CUSTOM}.thrift.v3.Thrift"),
            "Calls a method without arguments.",
        ),
    ] {
        add(Kind::HealthChecker, name, &[&ty], text);
    }
    add(
        Kind::HealthCheckEventSink,
        "envoy.health_check.event_sink.file",
        &["envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink"],
        "Writes what health checks find to a file.",
    );
    for (predicate, name, ty, text) in Predicate::ALL {
        r.insert(Kind::RetryHostPredicate, name, vec![ty.to_owned()], Docs { text, example: "" }, predicate);
    }
}
