//! `/server_info`, `/ready` and other facts.

use super::{AdminCx, Request, Response};
use crate::options::{DrainStrategy, Mode, Options};
use crate::version;
use serde_json::{Value, json};
use std::time::Duration;

/// `/server_info`
pub fn server_info(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let s = cx.server;
    let uptime = seconds(s.uptime());
    Response::json(&json!({
        "version": version::full(),
        "state": s.phase().name(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": s.options.hot_restart_version(),
        "command_line_options": options(&s.options, s.concurrency),
        "node": s.node_json(),
        "hot_restart_initializing": false,
    }))
}

/// `/ready`
pub fn ready(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let state = cx.server.phase().name();
    Response::text(if state == "LIVE" { 200 } else { 503 }, format!("{state}\n"))
}

/// `/hot_restart_version`
pub fn hot_restart_version(cx: &AdminCx<'_>, _: &Request<'_>) -> Response {
    Response::text(200, cx.server.options.hot_restart_version())
}

/// `/contention`
pub fn contention(_: &AdminCx<'_>, _: &Request<'_>) -> Response {
    let text =
        "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.";
    Response::text(200, text)
}

/// A protobuf duration: `600s`, `1.500s`.
fn seconds(d: Duration) -> String {
    match d.subsec_millis() {
        0 => format!("{}s", d.as_secs()),
        ms => format!("{}.{ms:03}s", d.as_secs()),
    }
}

fn options(o: &Options, concurrency: u32) -> Value {
    let tags: Vec<String> = o.stats_tags.iter().map(|(k, v)| format!("{k}:{v}")).collect();
    json!({
        "base_id": o.base_id.to_string(),
        "concurrency": concurrency,
        "config_path": o.config_path,
        "config_yaml": o.config_yaml,
        "allow_unknown_static_fields": o.allow_unknown_static_fields,
        "admin_address_path": o.admin_address_path,
        "local_address_ip_version": if o.local_address_v6 { "v6" } else { "v4" },
        "log_level": o.log_level.name(),
        "component_log_level": o.component_log_level,
        "log_format": o.log_format,
        "log_path": o.log_path,
        "service_cluster": o.service_cluster,
        "service_node": o.service_node,
        "service_zone": o.service_zone,
        "file_flush_interval": seconds(o.file_flush_interval),
        "drain_time": seconds(o.drain_time),
        "parent_shutdown_time": seconds(o.parent_shutdown_time),
        "mode": match o.mode {
            Mode::Serve => "Serve",
            Mode::Validate => "Validate",
            Mode::InitOnly => "InitOnly",
        },
        "disable_hot_restart": o.disable_hot_restart,
        "enable_mutex_tracing": o.enable_mutex_tracing,
        "restart_epoch": o.restart_epoch,
        "cpuset_threads": o.cpuset_threads,
        "reject_unknown_dynamic_fields": o.reject_unknown_dynamic_fields,
        "log_format_escaped": o.log_format_escaped,
        "disabled_extensions": o.disabled_extensions,
        "ignore_unknown_dynamic_fields": o.ignore_unknown_dynamic_fields,
        "use_dynamic_base_id": o.use_dynamic_base_id,
        "base_id_path": o.base_id_path,
        "drain_strategy": match o.drain_strategy {
            DrainStrategy::Gradual => "Gradual",
            DrainStrategy::Immediate => "Immediate",
        },
        "enable_fine_grain_logging": o.fine_grain_logging,
        "socket_path": o.socket_path,
        "socket_mode": o.socket_mode,
        "enable_core_dump": o.enable_core_dump,
        "stats_tag": tags,
        "skip_hot_restart_on_no_parent": o.skip_hot_restart_on_no_parent,
        "skip_hot_restart_parent_stats": o.skip_hot_restart_parent_stats,
        "skip_deprecated_logs": o.skip_deprecated_logs,
        "file_flush_min_size": o.file_flush_min_size_kb,
        "log_stacktrace_single_entry": o.log_stacktrace_single_entry,
    })
}
