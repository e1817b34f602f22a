//! What overload protection asks for at this moment (Envoy's overload manager), and the limit of connections of the whole
//! server. Main writes it, requests and connections read it: a relaxed load each.

use crate::rng;
use crate::runtime::RuntimeNumber;
use crate::stats;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

stats! {
    /// `overload.<load shed point>.`
    pub struct LoadShedStats {
        scale_percent: SetGauge,
        shed_load_count: Counter,
    }
}

/// How far an action is taken: 0 not at all, 1 always, between them that often.
#[derive(Debug, Default)]
pub struct Share(AtomicU32);

impl Share {
    /// Sets it; values outside 0 to 1 are clamped.
    pub fn set(&self, share: f32) {
        self.0.store(share.clamp(0.0, 1.0).to_bits(), Relaxed);
    }
    /// How far, now.
    #[inline]
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Relaxed))
    }
    /// Decides once.
    #[inline]
    pub fn happens(&self) -> bool {
        let share = self.get();
        share > 0.0 && (share >= 1.0 || rng::f64() < f64::from(share))
    }
}

/// A point of the way of connections and requests where load is shed.
#[derive(Debug, Default)]
pub struct LoadShedPoint {
    share: Share,
    stats: OnceLock<LoadShedStats>,
}

impl LoadShedPoint {
    /// Configures it; before the workers start.
    pub fn configure(&self, stats: LoadShedStats) {
        let _ = self.stats.set(stats); // configured once
    }
    /// Sets how much is shed.
    pub fn set(&self, share: f32) {
        self.share.set(share);
        if let Some(s) = self.stats.get() {
            s.scale_percent().set((100.0 * share) as u64);
        }
    }
    /// Decides once, and counts.
    #[inline]
    pub fn sheds(&self) -> bool {
        let sheds = self.share.happens();
        if sheds && let Some(s) = self.stats.get() {
            s.shed_load_count().inc();
        }
        sheds
    }
}

/// The state of overload protection; nothing is asked for by default.
#[derive(Debug, Default)]
pub struct Overload {
    /// `envoy.overload_actions.stop_accepting_requests`
    pub stop_accepting_requests: Share,
    /// `envoy.overload_actions.disable_http_keepalive`
    pub disable_http_keepalive: Share,
    /// `envoy.overload_actions.reject_incoming_connections`
    pub reject_incoming_connections: Share,
    /// `envoy.load_shed_points.tcp_listener_accept`
    pub tcp_listener_accept: LoadShedPoint,
    /// `envoy.load_shed_points.http_connection_manager_decode_headers`
    pub http_connection_manager_decode_headers: LoadShedPoint,
    /// Connections of clients over all workers.
    pub connections: Connections,
}

impl Overload {
    /// True when a request is to be answered with 503 at once.
    #[inline]
    pub fn refuses_request(&self) -> bool {
        self.http_connection_manager_decode_headers.sheds() || self.stop_accepting_requests.happens()
    }
    /// True when a connection is to be closed as soon as it was accepted.
    #[inline]
    pub fn refuses_connection(&self) -> bool {
        self.tcp_listener_accept.sheds() || self.reject_incoming_connections.happens()
    }
}

/// The connections of clients, counted over all workers because their limit is of the whole server.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    /// `envoy.resource_monitors.global_downstream_max_connections`
    monitor: OnceLock<u64>,
    /// Runtime key `overload.global_downstream_max_connections`, heeded without the monitor.
    runtime: OnceLock<RuntimeNumber>,
}

impl Connections {
    /// The deprecated runtime key of the limit.
    pub const KEY: &str = "overload.global_downstream_max_connections";

    /// Sets the limit of the resource monitor; before the workers start.
    pub fn set_monitor(&self, max: u64) {
        let _ = self.monitor.set(max); // configured once
    }
    /// Sets the runtime's; before the workers start.
    pub fn set_runtime(&self, max: RuntimeNumber) {
        let _ = self.runtime.set(max); // configured once
    }
    /// True when the monitor is configured.
    pub fn is_monitored(&self) -> bool {
        self.monitor.get().is_some()
    }
    /// Counts a connection in; false, and nothing is counted, when there are too many. `exempt`: of a listener with
    /// `ignore_global_conn_limit`.
    pub fn admit(&self, exempt: bool) -> bool {
        let max = match (self.monitor.get(), self.runtime.get()) {
            _ if exempt => u64::MAX,
            (Some(max), _) => *max,
            (None, Some(key)) => key.get(),
            (None, None) => u64::MAX,
        };
        let admitted = self.open.fetch_add(1, Relaxed) < max;
        if !admitted {
            self.leave();
        }
        admitted
    }
    /// A connection that was admitted is gone.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Layer, Runtime, RuntimeValue, Snapshot};

    #[test]
    fn shares_decide() {
        let s = Share::default();
        assert!((0..100).all(|_| !s.happens()));
        s.set(7.0);
        assert!(s.get() == 1.0 && (0..100).all(|_| s.happens()));
        s.set(0.25);
        let n = (0..4000).filter(|_| s.happens()).count();
        assert!((800..1200).contains(&n), "{n}");
    }

    #[test]
    fn what_is_shed_is_counted() {
        let store = stats::Store::new();
        let p = LoadShedPoint::default();
        assert!(!p.sheds());
        p.configure(LoadShedStats::new(&store.scope("overload.point")));
        p.set(1.0);
        assert!(p.sheds() && p.sheds());
        let stats = p.stats.get().expect("configured");
        assert_eq!((stats.shed_load_count().value(), stats.scale_percent().value()), (2, 100));
    }

    #[test]
    fn connections_have_a_limit() {
        let c = Connections::default();
        assert!(c.admit(false) && !c.is_monitored());
        let rt = Runtime::new(vec![]);
        c.set_runtime(rt.number(Connections::KEY, u64::MAX));
        let values = [(Connections::KEY.to_owned(), RuntimeValue::of_text("2").expect("a value"))].into();
        rt.set(Snapshot::new(vec![Layer { values, ..Layer::default() }]));
        assert!(c.admit(false) && !c.admit(false));
        assert!(c.admit(true) && !c.admit(false));
        c.set_monitor(5);
        assert!(c.is_monitored() && c.admit(false) && c.admit(false) && !c.admit(false));
        c.leave();
        assert!(c.admit(false));
    }
}
