//! HTTP filters (`envoy.filters.http`).

extensions![
    bandwidth_limit,
    basic_auth,
    buffer,
    compressor,
    cors,
    csrf,
    decompressor,
    fault,
    grpc_http1_bridge,
    grpc_stats,
    grpc_web,
    header_mutation,
    header_to_metadata,
    health_check,
    jwt_authn,
    local_ratelimit,
    match_delegate,
    rbac,
    set_filter_state,
    set_metadata,
];
