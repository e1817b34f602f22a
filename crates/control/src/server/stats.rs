//! The server's own stats.

use super::memory;
use crate::version;
use nuncio_core::stats;
use nuncio_core::stats::Scope;
use nuncio_engine::stats::RouterStats;

stats! {
    /// `server.`
    pub struct ServerStats {
        debug_assertion_failures: SharedCounter,
        dropped_stat_flushes: SharedCounter,
        dynamic_unknown_fields: SharedCounter,
        envoy_bug_failures: SharedCounter,
        envoy_notifications: SharedCounter,
        static_unknown_fields: SharedCounter,
        wip_protos: SharedCounter,
        fips_mode: SetGauge = "compilation_settings.fips_mode",
        concurrency: SetGauge,
        days_until_first_cert_expiring: SetGauge,
        hot_restart_epoch: SetGauge,
        live: SetGauge,
        panics: SharedCounter lazy,
        memory_allocated: SetGauge,
        memory_heap_size: SetGauge,
        memory_physical_size: SetGauge,
        parent_connections: SetGauge,
        seconds_until_first_ocsp_response_expiring: SetGauge,
        state: SetGauge,
        stats_recent_lookups: SetGauge,
        total_connections: SetGauge,
        uptime: SetGauge,
        version: SetGauge,
        initialization_time_ms: Histogram(Milliseconds),
    }
    /// `server.`: what became of reloads (`--watch`, SIGHUP).
    pub struct ReloadStats {
        reload_rejected: SharedCounter lazy,
        reload_success: SharedCounter lazy,
    }
    /// `server.`, unless hot restart is disabled.
    pub struct HotRestartStats {
        hot_restart_generation: SetGauge,
    }
    /// `server.main_thread.`, `server.worker_<i>.`, and the older `main_thread.` and `workers.`
    pub struct WatchdogStats {
        watchdog_mega_miss: SharedCounter,
        watchdog_miss: SharedCounter,
    }
    /// `overload.`
    pub struct OverloadStats {
        refresh_interval_delay: Histogram(Milliseconds),
    }
    /// `envoy.overload_actions.reset_high_memory_stream.`
    pub struct ResetStreamStats {
        count: SharedCounter,
    }
    /// `thread_local_cluster_manager.<thread>.`
    pub struct ThreadLocalClusterStats {
        clusters_inflated: SetGauge,
    }
}

/// All of them.
pub struct Stats {
    /// `server.`
    pub server: ServerStats,
    /// `server.`
    pub reload: ReloadStats,
    _hot_restart: Option<HotRestartStats>,
    /// `http.async-client.`: requests that the proxy makes on its own account.
    _async_client: RouterStats,
    _overload: (OverloadStats, ResetStreamStats),
    /// Kept so that they are listed.
    _watchdogs: Vec<WatchdogStats>,
    /// `thread_local_cluster_manager.`: main first, then the workers.
    pub clusters: Vec<ThreadLocalClusterStats>,
}

impl Stats {
    /// Declares them.
    pub fn new(root: &Scope, concurrency: u32, hot_restart: bool) -> Stats {
        let server = root.scope("server");
        let actions = root.scope("envoy").scope("overload_actions").scope("reset_high_memory_stream");
        let hot_restart = hot_restart.then(|| HotRestartStats::new(&server));
        if let Some(h) = &hot_restart {
            h.hot_restart_generation().set(1);
        }
        let workers = (0..concurrency).map(|i| format!("worker_{i}"));
        let threads: Vec<String> = std::iter::once("main_thread".to_owned()).chain(workers).collect();
        let mut watchdogs: Vec<_> = threads.iter().map(|t| WatchdogStats::new(&server.scope(t))).collect();
        watchdogs.extend(["main_thread", "workers"].map(|t| WatchdogStats::new(&root.scope(t))));
        let local = root.scope("thread_local_cluster_manager");
        let clusters = threads.iter().map(|t| ThreadLocalClusterStats::new(&local.scope(t))).collect();
        let s = Stats {
            server: ServerStats::new(&server),
            reload: ReloadStats::new(&server),
            _hot_restart: hot_restart,
            _async_client: RouterStats::new(&root.scope("http").scope("async-client")),
            _overload: (OverloadStats::new(&root.scope("overload")), ResetStreamStats::new(&actions)),
            _watchdogs: watchdogs,
            clusters,
        };
        s.server.concurrency().set(concurrency.into());
        s.server.days_until_first_cert_expiring().set(u32::MAX.into());
        s.server.version().set(version_number(version::sha()));
        s.memory();
        s
    }
    /// Takes down what memory is used.
    pub fn memory(&self) {
        let m = memory::usage();
        self.server.memory_allocated().set(m.allocated);
        self.server.memory_heap_size().set(m.heap);
        self.server.memory_physical_size().set(m.physical);
    }
}

/// The first six digits of the commit, as a number.
fn version_number(sha: &str) -> u64 {
    u64::from_str_radix(sha.get(..6).unwrap_or_default(), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::stats::{Query, Render, Store};

    #[test]
    fn listed_as_envoy_lists_them() {
        let store = Store::new();
        let _s = Stats::new(&store.root(), 2, true);
        let text = Render::new(&store, Query::default(), Vec::new()).into_string();
        let names: Vec<&str> = text.lines().filter_map(|l| l.split(": ").next()).collect();
        let of = |prefix: &str| names.iter().filter(|n| n.starts_with(prefix)).count();
        // Envoy 1.40 with two workers.
        assert_eq!(of("server."), 30);
        assert_eq!((of("main_thread."), of("workers."), of("thread_local_cluster_manager.")), (2, 2, 3));
        for line in [
            "server.compilation_settings.fips_mode: 0",
            "server.concurrency: 2",
            "server.days_until_first_cert_expiring: 4294967295",
            "server.worker_1.watchdog_mega_miss: 0",
            "server.initialization_time_ms: No recorded values",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_version_is_the_commit() {
        assert_eq!(version_number("9e5580933739775e8bce696a57a2e1bc99368f23"), 10_376_576);
        assert_eq!(version_number(""), 0);
    }
}
