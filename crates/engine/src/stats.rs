//! The stats of listeners, connection managers and clusters, under Envoy's names.

use nuncio_core::stats;

stats! {
    /// `listener.<address>.`
    pub struct ListenerStats {
        downstream_cx_destroy: Counter,
        downstream_cx_overflow: Counter,
        downstream_cx_overload_reject: Counter,
        downstream_cx_total: Counter,
        downstream_cx_transport_socket_connect_timeout: Counter,
        downstream_global_cx_overflow: Counter,
        downstream_listener_filter_error: Counter,
        downstream_listener_filter_remote_close: Counter,
        downstream_pre_cx_timeout: Counter,
        no_filter_chain_match: Counter,
        downstream_cx_active: Gauge,
        downstream_pre_cx_active: Gauge,
        downstream_cx_length_ms: Histogram(Milliseconds),
        connections_accepted_per_socket_event: Histogram(Unspecified),
    }
    /// `listener.<address>.`, but not of the admin interface
    pub struct ListenerConfigStats {
        extension_config_missing: SharedCounter,
        network_extension_config_missing: SharedCounter,
    }
    /// `listener.<address>.worker_<i>.`, `listener.admin.main_thread.`
    pub struct HandlerStats {
        downstream_cx_total: Counter,
        downstream_cx_active: Gauge,
    }
    /// `listener.<address>.http.<stat_prefix>.`
    pub struct ListenerHttpStats {
        downstream_rq_1xx: Counter,
        downstream_rq_2xx: Counter,
        downstream_rq_3xx: Counter,
        downstream_rq_4xx: Counter,
        downstream_rq_5xx: Counter,
        downstream_rq_completed: Counter,
    }
    /// `http.<stat_prefix>.`
    pub struct HttpStats {
        downstream_cx_delayed_close_timeout: Counter,
        downstream_cx_destroy: Counter,
        downstream_cx_destroy_active_rq: Counter,
        downstream_cx_destroy_local: Counter,
        downstream_cx_destroy_local_active_rq: Counter,
        downstream_cx_destroy_remote: Counter,
        downstream_cx_destroy_remote_active_rq: Counter,
        downstream_cx_drain_close: Counter,
        downstream_cx_http1_total: Counter,
        downstream_cx_http2_total: Counter,
        downstream_cx_http3_total: Counter,
        downstream_cx_idle_timeout: Counter,
        downstream_cx_max_duration_reached: Counter,
        downstream_cx_max_requests_reached: Counter,
        downstream_cx_overload_disable_keepalive: Counter,
        downstream_cx_protocol_error: Counter,
        downstream_cx_rx_bytes_total: Counter,
        downstream_cx_ssl_total: Counter,
        downstream_cx_total: Counter,
        downstream_cx_tx_bytes_total: Counter,
        downstream_cx_upgrades_total: Counter,
        downstream_flow_control_paused_reading_total: Counter,
        downstream_flow_control_resumed_reading_total: Counter,
        downstream_rq_1xx: Counter,
        downstream_rq_2xx: Counter,
        downstream_rq_3xx: Counter,
        downstream_rq_4xx: Counter,
        downstream_rq_5xx: Counter,
        downstream_rq_completed: Counter,
        downstream_rq_failed_path_normalization: Counter,
        downstream_rq_header_timeout: Counter,
        downstream_rq_http1_total: Counter,
        downstream_rq_http2_total: Counter,
        downstream_rq_http3_total: Counter,
        downstream_rq_idle_timeout: Counter,
        downstream_rq_max_duration_reached: Counter,
        downstream_rq_non_relative_path: Counter,
        downstream_rq_overload_close: Counter,
        downstream_rq_redirected_with_normalized_path: Counter,
        downstream_rq_rejected_via_ip_detection: Counter,
        downstream_rq_response_before_rq_complete: Counter,
        downstream_rq_rx_reset: Counter,
        downstream_rq_timeout: Counter,
        downstream_rq_too_large: Counter,
        downstream_rq_too_many_premature_resets: Counter,
        downstream_rq_total: Counter,
        downstream_rq_tx_reset: Counter,
        downstream_rq_ws_on_non_ws_route: Counter,
        rs_too_large: Counter,
        downstream_cx_active: Gauge,
        downstream_cx_http1_active: Gauge,
        downstream_cx_http1_soft_drain: Gauge,
        downstream_cx_http2_active: Gauge,
        downstream_cx_http3_active: Gauge,
        downstream_cx_rx_bytes_buffered: Gauge,
        downstream_cx_ssl_active: Gauge,
        downstream_cx_tx_bytes_buffered: Gauge,
        downstream_cx_upgrades_active: Gauge,
        downstream_rq_active: Gauge,
        downstream_cx_length_ms: Histogram(Milliseconds),
        downstream_rq_time: Histogram(Milliseconds),
    }
    /// `http.<stat_prefix>.`, of the router
    pub struct RouterStats {
        no_cluster: Counter,
        no_route: Counter,
        passthrough_internal_redirect_bad_location: Counter,
        passthrough_internal_redirect_no_route: Counter,
        passthrough_internal_redirect_predicate: Counter,
        passthrough_internal_redirect_too_many_redirects: Counter,
        passthrough_internal_redirect_unsafe_scheme: Counter,
        rq_direct_response: Counter,
        rq_overload_local_reply: Counter,
        rq_redirect: Counter,
        rq_reset_after_downstream_response_started: Counter,
        rq_total: Counter,
    }
    /// `http.<stat_prefix>.tracing.`
    pub struct TracingStats {
        client_enabled: Counter,
        health_check: Counter,
        not_traceable: Counter,
        random_sampling: Counter,
        service_forced: Counter,
    }
    /// `vhost.<name>.vcluster.<name>.`, `vhost.<name>.route.<stat_prefix>.`
    pub struct RequestStats {
        upstream_rq_retry: Counter,
        upstream_rq_retry_limit_exceeded: Counter,
        upstream_rq_retry_overflow: Counter,
        upstream_rq_retry_success: Counter,
        upstream_rq_timeout: Counter,
        upstream_rq_total: Counter,
        rq: Codes lazy = "upstream_rq",
        upstream_rq_time: Histogram(Milliseconds) lazy,
    }
    /// `dns_cache.<name>.`
    pub struct DnsCacheStats {
        cache_load: SharedCounter,
        dns_address_filter_out: SharedCounter,
        dns_query_attempt: SharedCounter,
        dns_query_failure: SharedCounter,
        dns_query_success: SharedCounter,
        dns_query_timeout: SharedCounter,
        dns_rq_pending_overflow: SharedCounter,
        host_added: SharedCounter,
        host_address_changed: SharedCounter,
        host_overflow: SharedCounter,
        host_removed: SharedCounter,
        num_hosts: SetGauge,
        rq_pending_open: Derived = "circuit_breakers.rq_pending_open",
        rq_pending_remaining: Derived = "circuit_breakers.rq_pending_remaining",
    }
    /// `cluster.<name>.nuncio.`: no stats of Envoy's.
    pub struct ReplayStats {
        upstream_rq_replay: Counter,
    }
    /// `cluster.<name>.retry.`: responses that were retried
    pub struct RetryStats {
        rq: Codes lazy = "upstream_rq",
    }
    /// `cluster.<name>.zone.<from>.<to>.`
    pub struct ZoneStats {
        rq: Codes lazy = "upstream_rq",
        upstream_rq_time: Histogram(Milliseconds) lazy,
    }
    /// `cluster.<name>.<x-envoy-upstream-alt-stat-name>.`
    pub struct AltStats {
        rq: Codes lazy = "upstream_rq",
        internal: Codes lazy = "internal.upstream_rq",
        external: Codes lazy = "external.upstream_rq",
        canary: Codes lazy = "canary.upstream_rq",
        upstream_rq_time: Histogram(Milliseconds) lazy,
        internal_rq_time: Histogram(Milliseconds) lazy = "internal.upstream_rq_time",
        external_rq_time: Histogram(Milliseconds) lazy = "external.upstream_rq_time",
        canary_rq_time: Histogram(Milliseconds) lazy = "canary.upstream_rq_time",
    }
    /// `tcp.<stat_prefix>.`
    pub struct TcpStats {
        downstream_cx_drain_close: Counter,
        downstream_cx_no_route: Counter,
        downstream_cx_overload_close: Counter,
        downstream_cx_rx_bytes_total: Counter,
        downstream_cx_total: Counter,
        downstream_cx_tx_bytes_total: Counter,
        downstream_flow_control_paused_reading_total: Counter,
        downstream_flow_control_resumed_reading_total: Counter,
        early_data_received_count_total: Counter,
        idle_timeout: Counter,
        max_downstream_connection_duration: Counter,
        route_delayed_total: Counter,
        upstream_flush_total: Counter,
        downstream_cx_rx_bytes_buffered: Gauge,
        downstream_cx_tx_bytes_buffered: Gauge,
        upstream_flush_active: Gauge,
    }
    /// `cluster.<name>.`
    pub struct ClusterStats {
        assignment_stale: Counter,
        assignment_timeout_received: Counter,
        assignment_use_cached: Counter,
        bind_errors: Counter,
        lb_healthy_panic: Counter,
        lb_local_cluster_not_ok: Counter,
        lb_recalculate_zone_structures: Counter,
        lb_subsets_created: Counter,
        lb_subsets_fallback: Counter,
        lb_subsets_fallback_panic: Counter,
        lb_subsets_removed: Counter,
        lb_subsets_selected: Counter,
        lb_zone_cluster_too_small: Counter,
        lb_zone_no_capacity_left: Counter,
        lb_zone_routing_all_directly: Counter,
        lb_zone_routing_cross_zone: Counter,
        lb_zone_routing_sampled: Counter,
        original_dst_host_invalid: Counter,
        retry_or_shadow_abandoned: Counter,
        membership_change: SharedCounter,
        update_attempt: SharedCounter,
        update_empty: SharedCounter,
        update_failure: SharedCounter,
        update_no_rebuild: SharedCounter,
        update_success: SharedCounter,
        upstream_cx_close_notify: Counter,
        upstream_cx_connect_attempts_exceeded: Counter,
        upstream_cx_connect_fail: Counter,
        upstream_cx_connect_timeout: Counter,
        upstream_cx_connect_with_0_rtt: Counter,
        upstream_cx_destroy: Counter,
        upstream_cx_destroy_local: Counter,
        upstream_cx_destroy_local_with_active_rq: Counter,
        upstream_cx_destroy_remote: Counter,
        upstream_cx_destroy_remote_with_active_rq: Counter,
        upstream_cx_destroy_with_active_rq: Counter,
        upstream_cx_http1_total: Counter,
        upstream_cx_http2_total: Counter,
        upstream_cx_http3_total: Counter,
        upstream_cx_idle_timeout: Counter,
        upstream_cx_max_duration_reached: Counter,
        upstream_cx_max_requests: Counter,
        upstream_cx_none_healthy: Counter,
        upstream_cx_overflow: Counter,
        upstream_cx_pool_overflow: Counter,
        upstream_cx_preconnect_skipped: Counter,
        upstream_cx_protocol_error: Counter,
        upstream_cx_rx_bytes_total: Counter,
        upstream_cx_total: Counter,
        upstream_cx_tx_bytes_total: Counter,
        upstream_flow_control_backed_up_total: Counter,
        upstream_flow_control_drained_total: Counter,
        upstream_flow_control_paused_reading_total: Counter,
        upstream_flow_control_resumed_reading_total: Counter,
        upstream_http3_broken: Counter,
        upstream_internal_redirect_failed_total: Counter,
        upstream_internal_redirect_succeeded_total: Counter,
        upstream_rq_0rtt: Counter,
        upstream_rq_active_overflow: Counter,
        upstream_rq_cancelled: Counter,
        upstream_rq_maintenance_mode: Counter,
        upstream_rq_max_duration_reached: Counter,
        upstream_rq_pending_failure_eject: Counter,
        upstream_rq_pending_overflow: Counter,
        upstream_rq_pending_total: Counter,
        upstream_rq_per_try_idle_timeout: Counter,
        upstream_rq_per_try_timeout: Counter,
        upstream_rq_retry: Counter,
        upstream_rq_retry_backoff_exponential: Counter,
        upstream_rq_retry_backoff_ratelimited: Counter,
        upstream_rq_retry_limit_exceeded: Counter,
        upstream_rq_retry_overflow: Counter,
        upstream_rq_retry_success: Counter,
        upstream_rq_rx_reset: Counter,
        upstream_rq_rx_reset_no_error: Counter,
        upstream_rq_timeout: Counter,
        upstream_rq_total: Counter,
        upstream_rq_tx_reset: Counter,
        rq: Codes = "upstream_rq",
        internal: Codes lazy = "internal.upstream_rq",
        external: Codes lazy = "external.upstream_rq",
        canary: Codes lazy = "canary.upstream_rq",
        default_cx_open: Derived = "circuit_breakers.default.cx_open",
        default_cx_pool_open: Derived = "circuit_breakers.default.cx_pool_open",
        default_rq_open: Derived = "circuit_breakers.default.rq_open",
        default_rq_pending_open: Derived = "circuit_breakers.default.rq_pending_open",
        default_rq_retry_open: Derived = "circuit_breakers.default.rq_retry_open",
        high_cx_open: Derived = "circuit_breakers.high.cx_open",
        high_cx_pool_open: Derived = "circuit_breakers.high.cx_pool_open",
        high_rq_open: Derived = "circuit_breakers.high.rq_open",
        high_rq_pending_open: Derived = "circuit_breakers.high.rq_pending_open",
        high_rq_retry_open: Derived = "circuit_breakers.high.rq_retry_open",
        max_host_weight: Derived,
        membership_degraded: Derived,
        membership_excluded: Derived,
        membership_healthy: Derived,
        membership_total: Derived,
        warming_state: Derived,
        lb_subsets_active: Gauge,
        upstream_cx_active: Gauge,
        upstream_cx_rx_bytes_buffered: Gauge,
        upstream_cx_tx_bytes_buffered: Gauge,
        upstream_queue_overloaded: Gauge,
        upstream_rq_active: Gauge,
        upstream_rq_pending_active: Gauge,
        version: SetGauge,
        upstream_cx_connect_ms: Histogram(Milliseconds),
        upstream_cx_length_ms: Histogram(Milliseconds),
        upstream_rq_per_cx: Histogram(Unspecified),
        upstream_rq_time: Histogram(Milliseconds) lazy,
        internal_rq_time: Histogram(Milliseconds) lazy = "internal.upstream_rq_time",
        external_rq_time: Histogram(Milliseconds) lazy = "external.upstream_rq_time",
        canary_rq_time: Histogram(Milliseconds) lazy = "canary.upstream_rq_time",
        default_total_match_count: SharedCounter lazy = "default.total_match_count",
    }
    /// `cluster.<name>.<name of an entry of transport_socket_matches>.`
    pub struct TransportMatchStats {
        total_match_count: SharedCounter,
    }
    /// `cluster.<name>.upstream.proxyprotocol.`
    pub struct ProxyHeaderStats {
        v2_tlvs_exceed_max_length: Counter,
    }
    /// `cluster.<name>.circuit_breakers.<priority>.`, with `track_remaining`
    pub struct RemainingStats {
        remaining_cx: Derived,
        remaining_cx_pools: Derived,
        remaining_pending: Derived,
        remaining_retries: Derived,
        remaining_rq: Derived,
    }
    /// `http1.`, `cluster.<name>.http1.`; made with the first connection of the protocol
    pub struct Http1Stats {
        dropped_headers_with_underscores: Counter,
        metadata_not_supported_error: Counter,
        requests_rejected_with_underscores_in_headers: Counter,
        response_flood: Counter,
    }
    /// `http2.`, `cluster.<name>.http2.`; made with the first connection of the protocol
    pub struct Http2Stats {
        cookies_total_bytes_too_large: Counter,
        dropped_headers_with_underscores: Counter,
        goaway_sent: Counter,
        header_list_size_too_large: Counter,
        header_overflow: Counter,
        headers_cb_no_stream: Counter,
        inbound_empty_frames_flood: Counter,
        inbound_priority_frames_flood: Counter,
        inbound_window_update_frames_flood: Counter,
        keepalive_timeout: Counter,
        metadata_empty_frames: Counter,
        nghttp2_downstream_connections: Counter,
        nghttp2_upstream_connections: Counter,
        oghttp2_downstream_connections: Counter,
        oghttp2_upstream_connections: Counter,
        outbound_control_flood: Counter,
        outbound_flood: Counter,
        requests_rejected_with_underscores_in_headers: Counter,
        rx_messaging_error: Counter,
        rx_reset: Counter,
        stream_refused_errors: Counter,
        trailers: Counter,
        tx_flush_timeout: Counter,
        tx_reset: Counter,
        deferred_stream_close: Gauge,
        outbound_control_frames_active: Gauge,
        outbound_frames_active: Gauge,
        pending_send_bytes: Gauge,
        streams_active: Gauge,
        cookie_count: Histogram(Unspecified),
        cookie_size: Histogram(Unspecified),
        header_count: Histogram(Unspecified),
        header_list_size: Histogram(Unspecified),
    }
    /// `listener.<address>.ssl.`, `cluster.<name>.ssl.`
    pub struct SslStats {
        connection_error: Counter,
        fail_verify_cert_hash: Counter,
        fail_verify_error: Counter,
        fail_verify_no_cert: Counter,
        fail_verify_san: Counter,
        handshake: Counter,
        no_certificate: Counter,
        ocsp_staple_failed: Counter,
        ocsp_staple_omitted: Counter,
        ocsp_staple_requests: Counter,
        ocsp_staple_responses: Counter,
        session_reused: Counter,
        ciphers: CounterFamily = "ciphers.",
        curves: CounterFamily = "curves.",
        sigalgs: CounterFamily = "sigalgs.",
        certificate: GaugeFamily = "certificate.",
        versions: CounterFamily = "versions.",
    }
}

stats! {
    /// `listener.<address>.server_ssl_socket_factory.`, `cluster.<name>.client_ssl_socket_factory.`
    pub struct SocketFactoryStats {
        downstream_context_secrets_not_ready: Counter,
        ssl_context_update_by_sds: Counter,
        upstream_context_secrets_not_ready: Counter,
    }
}

/// Adds what an HTTP/2 codec has counted.
pub fn count_http2(s: &Http2Stats, c: &nuncio_wire::h2::Counters) {
    if *c == nuncio_wire::h2::Counters::default() {
        return;
    }
    s.dropped_headers_with_underscores().add(c.dropped_headers_with_underscores.into());
    s.goaway_sent().add(c.goaway_sent.into());
    s.header_overflow().add(c.header_overflow.into());
    s.header_list_size_too_large().add(c.header_list_size_too_large.into());
    s.inbound_empty_frames_flood().add(c.inbound_empty_frames_flood.into());
    s.inbound_priority_frames_flood().add(c.inbound_priority_frames_flood.into());
    s.inbound_window_update_frames_flood().add(c.inbound_window_update_frames_flood.into());
    s.outbound_control_flood().add(c.outbound_control_flood.into());
    s.outbound_flood().add(c.outbound_flood.into());
    s.requests_rejected_with_underscores_in_headers()
        .add(c.requests_rejected_with_underscores_in_headers.into());
    s.rx_messaging_error().add(c.rx_messaging_error.into());
    s.rx_reset().add(c.rx_reset.into());
    s.stream_refused_errors().add(c.stream_refused_errors.into());
    s.trailers().add(c.trailers.into());
    s.tx_reset().add(c.tx_reset.into());
}
