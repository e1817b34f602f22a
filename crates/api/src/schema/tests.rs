use super::*;
use std::collections::HashSet;

#[test]
fn messages_are_sorted_and_reachable() {
    assert!(messages().len() > 1500);
    for pair in messages().windows(2) {
        assert!(pair[0].name() < pair[1].name());
    }
    for known in messages() {
        let found = message(known.name()).expect("a known name");
        assert_eq!(found.name(), known.name());
        for (index, field) in known.fields().iter().enumerate() {
            assert_eq!(known.index_of_number(field.number), Some(index), "{}.{}", known.name(), field.name());
            assert_eq!(known.index_of_name(field.name()), Some(index), "{}.{}", known.name(), field.name());
            assert_eq!(known.index_of_name(field.json_name()), Some(index));
            assert!(field.oneof().is_none_or(|oneof| oneof < known.oneofs().len()));
        }
        assert!(known.index_of_name("no such field").is_none());
        assert!(known.index_of_number(70_000).is_none());
    }
}

#[test]
fn newer_fields_and_messages_are_there() {
    let fields = [
        ("envoy.config.core.v3.HealthCheck", "name", 27),
        ("envoy.config.core.v3.HealthCheck.HttpHealthCheck", "use_alpn_protocol", 15),
        ("envoy.extensions.filters.http.basic_auth.v3.BasicAuth", "realm", 6),
        ("envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute", "realm", 2),
        ("envoy.config.metrics.v3.StatsdSink", "scale_histogram_units_to_milliseconds", 4),
        ("envoy.config.metrics.v3.DogStatsdSink", "scale_histogram_units_to_milliseconds", 5),
        (
            "envoy.extensions.stat_sinks.graphite_statsd.v3.GraphiteStatsdSink",
            "scale_histogram_units_to_milliseconds",
            5,
        ),
        (
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "record_route_resolution_stats",
            63,
        ),
        ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "clear_route_cache_headers", 34),
        ("envoy.extensions.filters.http.lua.v3.Lua", "shared_vm_id", 9),
        ("envoy.extensions.filters.http.lua.v3.LuaPerRoute", "shared_vm_id", 7),
        ("envoy.extensions.filters.http.oauth2.v3.OAuth2Config", "token_cookie_chunking", 34),
        ("envoy.extensions.filters.http.header_mutation.v3.Mutations", "formatters", 6),
        ("envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.UdpTunnelingConfig", "formatters", 12),
        ("envoy.type.tracing.v3.CustomTag", "value_type", 7),
        ("envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride", "unit_multiplier", 3),
        ("envoy.service.ratelimit.v3.RateLimitResponse.RateLimit", "unit_multiplier", 4),
        (
            "envoy.extensions.load_balancing_policies.load_aware_locality.v3.LoadAwareLocality",
            "oob_reporting_config",
            10,
        ),
    ];
    for (owner, name, number) in fields {
        let field = message(owner).expect(owner).field(name).expect(name);
        assert_eq!(field.number, number, "{owner}.{name}");
    }
    for name in [
        "xds.type.v3.TypedStruct",
        "udpa.type.v1.TypedStruct",
        "xds.type.matcher.v3.CelMatcher",
        "xds.type.matcher.v3.HttpAttributesCelMatchInput",
        "xds.type.matcher.v3.IPMatcher",
        "xds.type.matcher.v3.ServerNameMatcher",
        "xds.type.matcher.v3.Int64RangeMatcher",
        "xds.type.v3.DoubleRange",
        "xds.core.v3.ResourceName",
        "xds.core.v3.Resource",
        "xds.data.orca.v3.OrcaLoadReport",
        "grpc.health.v1.HealthCheckRequest",
        "envoy.extensions.filters.http.dynamo.v3.Dynamo",
        "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest",
    ] {
        assert!(message(name).is_some(), "{name}");
    }
}

#[test]
fn rules_come_in_the_order_of_the_validators() {
    let cluster = message("envoy.config.cluster.v3.Cluster").expect("a message");
    assert_eq!(cluster.field("name").expect("a field").rules(), [Rule::Length(Some(1), None)]);
    assert_eq!(cluster.field("health_checks").expect("a field").rules(), [Rule::Items(None, Some(8))]);
    let weight = message("envoy.config.core.v3.HealthCheck").expect("a message");
    assert_eq!(
        weight.field("timeout").expect("a field").rules(),
        [Rule::Required, Rule::Duration(Bound::Open(0), Bound::None)]
    );
}

#[test]
fn enums_know_names_and_numbers() {
    let cluster = message("envoy.config.cluster.v3.Cluster").expect("a message");
    let discovery = cluster.field("type").expect("a field").ty.enumeration().expect("an enum");
    assert_eq!(discovery.number_of("STATIC"), Some(0));
    assert_eq!(discovery.number_of("strict_dns"), Some(1));
    assert_eq!(discovery.name_of(2), Some("LOGICAL_DNS"));
    assert_eq!(discovery.name_of(99), None);
    assert_eq!(discovery.number_of("STATICK"), None);
}

#[test]
fn secrets_are_marked() {
    let certificate = message("envoy.extensions.transport_sockets.tls.v3.TlsCertificate").expect("a message");
    assert!(certificate.field("private_key").expect("a field").sensitive());
    assert!(!certificate.field("certificate_chain").expect("a field").sensitive());
}

#[test]
fn names_of_prost_match_the_tables() {
    use prost::Name;
    let known: HashSet<_> = messages().iter().map(Message::name).collect();
    assert!(known.contains(crate::envoy::config::bootstrap::v3::Bootstrap::full_name().as_str()));
    assert_eq!(
        crate::envoy::config::core::v3::Node::type_url(),
        "type.googleapis.com/envoy.config.core.v3.Node"
    );
}
