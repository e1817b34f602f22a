//! What the command line asked for: Envoy's options, and ours.
//!
//! The fields are those of `envoy.admin.v3.CommandLineOptions`, which `/server_info` prints. What each option does, or
//! does not do yet, is in `docs/options.md`.

use nuncio_core::log::{DEFAULT_FORMAT, Level, Logger};
use std::time::Duration;

/// `--mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Serve traffic.
    #[default]
    Serve,
    /// Check the configuration and exit; binds nothing.
    Validate,
    /// Start up wholly, then exit.
    InitOnly,
}

/// `--drain-strategy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DrainStrategy {
    /// Connections are asked to close with a probability that rises to 1 over the drain time.
    #[default]
    Gradual,
    /// All at once.
    Immediate,
}

/// Envoy's name for its hot restart protocol; printed, not spoken.
pub const HOT_RESTART_VERSION: &str = "11.104";

/// The options of one server.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// `-c`; empty when not given.
    pub config_path: String,
    /// `--config-yaml`, merged over the file.
    pub config_yaml: String,
    /// `--mode`.
    pub mode: Mode,
    /// `--concurrency`: number of workers; none means one for each CPU the process may use.
    pub concurrency: Option<u32>,
    /// `--cpuset-threads`: count the CPUs of the cpuset; our default does anyway.
    pub cpuset_threads: bool,
    /// `-l`.
    pub log_level: Level,
    /// `--component-log-level`, as given.
    pub component_log_level: String,
    /// The same, parsed.
    pub component_log_levels: Vec<(Logger, Level)>,
    /// `--log-format`.
    pub log_format: String,
    /// `--log-format-escaped`.
    pub log_format_escaped: bool,
    /// `--log-path`; empty means stderr.
    pub log_path: String,
    /// `--enable-fine-grain-logging`.
    pub fine_grain_logging: bool,
    /// `--log-stacktrace-single-entry`.
    pub log_stacktrace_single_entry: bool,
    /// `--service-cluster`, wins over `node.cluster` when not empty.
    pub service_cluster: String,
    /// `--service-node`, wins over `node.id` when not empty.
    pub service_node: String,
    /// `--service-zone`, wins over `node.locality.zone` when not empty.
    pub service_zone: String,
    /// `--base-id`.
    pub base_id: u32,
    /// `--use-dynamic-base-id`.
    pub use_dynamic_base_id: bool,
    /// `--base-id-path`: where the base id is written.
    pub base_id_path: String,
    /// `--restart-epoch`.
    pub restart_epoch: u32,
    /// `--disable-hot-restart`.
    pub disable_hot_restart: bool,
    /// `--skip-hot-restart-on-no-parent`.
    pub skip_hot_restart_on_no_parent: bool,
    /// `--skip-hot-restart-parent-stats`.
    pub skip_hot_restart_parent_stats: bool,
    /// `--socket-path` of hot restart.
    pub socket_path: String,
    /// `--socket-mode`, 0 for abstract sockets.
    pub socket_mode: u32,
    /// `--admin-address-path`: where the admin's address is written.
    pub admin_address_path: String,
    /// True for `--local-address-ip-version v6`.
    pub local_address_v6: bool,
    /// `--drain-time-s`.
    pub drain_time: Duration,
    /// `--drain-strategy`.
    pub drain_strategy: DrainStrategy,
    /// `--parent-shutdown-time-s`.
    pub parent_shutdown_time: Duration,
    /// `--file-flush-interval-msec` of access logs.
    pub file_flush_interval: Duration,
    /// `--file-flush-min-size-kb` of access logs.
    pub file_flush_min_size_kb: u32,
    /// `--allow-unknown-static-fields` or `--allow-unknown-fields`.
    pub allow_unknown_static_fields: bool,
    /// `--reject-unknown-dynamic-fields`.
    pub reject_unknown_dynamic_fields: bool,
    /// `--ignore-unknown-dynamic-fields`.
    pub ignore_unknown_dynamic_fields: bool,
    /// `--skip-deprecated-logs`.
    pub skip_deprecated_logs: bool,
    /// `--disable-extensions`, as `category/name`.
    pub disabled_extensions: Vec<String>,
    /// `--enable-mutex-tracing`.
    pub enable_mutex_tracing: bool,
    /// `--enable-core-dump`.
    pub enable_core_dump: bool,
    /// `--stats-tag`: name and value, on every stat.
    pub stats_tags: Vec<(String, String)>,
    /// `--graceful-shutdown-s`, ours: on SIGTERM and SIGINT, how long connections may finish. Zero as in Envoy.
    pub graceful_shutdown: Duration,
    /// `--watch`, ours: take over changes of the configuration file while serving.
    pub watch: bool,
    /// Things to say once the log is set up: options that are deprecated or contradict each other.
    pub warnings: Vec<String>,
}

impl Options {
    /// The version of the hot restart protocol, or `disabled`.
    pub fn hot_restart_version(&self) -> &'static str {
        if self.disable_hot_restart { "disabled" } else { HOT_RESTART_VERSION }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            config_path: String::new(),
            config_yaml: String::new(),
            mode: Mode::Serve,
            concurrency: None,
            cpuset_threads: false,
            log_level: Level::Info,
            component_log_level: String::new(),
            component_log_levels: Vec::new(),
            log_format: DEFAULT_FORMAT.to_owned(),
            log_format_escaped: false,
            log_path: String::new(),
            fine_grain_logging: false,
            log_stacktrace_single_entry: false,
            service_cluster: String::new(),
            service_node: String::new(),
            service_zone: String::new(),
            base_id: 0,
            use_dynamic_base_id: false,
            base_id_path: String::new(),
            restart_epoch: 0,
            disable_hot_restart: false,
            skip_hot_restart_on_no_parent: false,
            skip_hot_restart_parent_stats: false,
            socket_path: "@envoy_domain_socket".to_owned(),
            socket_mode: 0,
            admin_address_path: String::new(),
            local_address_v6: false,
            drain_time: Duration::from_secs(600),
            drain_strategy: DrainStrategy::Gradual,
            parent_shutdown_time: Duration::from_secs(900),
            file_flush_interval: Duration::from_secs(10),
            file_flush_min_size_kb: 0,
            allow_unknown_static_fields: false,
            reject_unknown_dynamic_fields: false,
            ignore_unknown_dynamic_fields: false,
            skip_deprecated_logs: false,
            disabled_extensions: Vec::new(),
            enable_mutex_tracing: false,
            enable_core_dump: false,
            stats_tags: Vec::new(),
            graceful_shutdown: Duration::ZERO,
            watch: false,
            warnings: Vec::new(),
        }
    }
}
