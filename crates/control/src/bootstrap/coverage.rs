//! Which fields of the bootstrap are read, and which are left aside because that is harmless.

use nuncio_core::coverage::Covered;

/// The messages that this floor reads.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.bootstrap.v3.Bootstrap",
        &[
            "node",
            "static_resources",
            "dynamic_resources",
            "cluster_manager",
            "stats_config",
            "stats_flush_interval",
            "stats_flush_on_admin",
            "layered_runtime",
            "admin",
            "typed_dns_resolver_config",
            "overload_manager",
        ],
    )
    .ignoring(&[
        ("deferred_stat_options", "our stats cost nothing until they are used, whatever this says"),
        ("enable_dispatcher_stats", "measures Envoy's event loop, which we do not have"),
        ("use_tcp_for_dns_lookups", "deprecated; typed_dns_resolver_config of a cluster decides"),
        ("perf_tracing_file_path", "only of builds with perf tracing"),
        ("grpc_async_client_manager_config", "tunes a cache of gRPC clients, of which none exist yet"),
        ("memory_allocator_manager", "tunes tcmalloc, which we do not use"),
    ]),
    Covered::new(
        "envoy.config.bootstrap.v3.Bootstrap.StaticResources",
        &["listeners", "clusters", "secrets"],
    ),
    Covered::new(
        "envoy.config.bootstrap.v3.Admin",
        &["access_log", "address", "access_log_path", "ignore_global_conn_limit"],
    )
    .ignoring(&[("profile_path", "names the file of a profiler that this build does not have")]),
    Covered::new("envoy.config.bootstrap.v3.ClusterManager.OutlierDetection", &["event_log_path"]),
    Covered::new(
        "envoy.config.bootstrap.v3.ClusterManager",
        &["outlier_detection", "local_cluster_name", "load_stats_config"],
    )
    .ignoring(&[(
        "enable_deferred_cluster_creation",
        "workers make clusters when they are first used, anyhow",
    )]),
    Covered::new(
        "envoy.config.metrics.v3.StatsConfig",
        &["stats_tags", "use_all_default_tags", "stats_matcher", "histogram_bucket_settings"],
    ),
    Covered::new("envoy.config.metrics.v3.HistogramBucketSettings", &["match", "buckets"]),
    Covered::new("envoy.config.metrics.v3.StatsMatcher", &["reject_all", "exclusion_list", "inclusion_list"]),
    Covered::new("envoy.config.metrics.v3.TagSpecifier", &["tag_name", "regex", "fixed_value"]),
    Covered::new("envoy.config.bootstrap.v3.LayeredRuntime", &["layers"]),
    Covered::new(
        "envoy.config.bootstrap.v3.RuntimeLayer",
        &["name", "static_layer", "disk_layer", "admin_layer", "rtds_layer"],
    ),
    Covered::new(
        "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer",
        &["symlink_root", "subdirectory", "append_service_cluster"],
    ),
    Covered::new("envoy.config.bootstrap.v3.RuntimeLayer.RtdsLayer", &["name", "rtds_config"]),
    Covered::new(
        "envoy.config.core.v3.Node",
        &[
            "id",
            "cluster",
            "metadata",
            "dynamic_parameters",
            "locality",
            "client_features",
            "listening_addresses",
        ],
    )
    .ignoring(&[
        ("user_agent_name", "the server says itself what it is, as in Envoy"),
        ("user_agent_version", "likewise"),
        ("user_agent_build_version", "likewise"),
        ("extensions", "likewise"),
    ]),
    Covered::new("xds.core.v3.ContextParams", &["params"]),
    Covered::new("envoy.config.core.v3.Locality", &["region", "zone", "sub_zone"]),
];
