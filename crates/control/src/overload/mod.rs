//! The overload manager (`Bootstrap.overload_manager`): monitors say how much of a resource is in use ([`monitor`]),
//! triggers turn that into how far an action is taken ([`trigger`]), and here that is told to those who take it. It runs
//! on main, once per `refresh_interval`.

pub mod monitor;
mod trigger;

use crate::server::stats::OverloadStats;
use monitor::{Built, CONNECTIONS, Monitor};
use nuncio_api::envoy::config::overload::v3 as pb;
use nuncio_core::clock::{self, Scale, ScaleMinimum, TimerKind};
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::overload::{LoadShedStats, Overload};
use nuncio_core::registry::Registry;
use nuncio_core::runtime::{Runtime, ServerState};
use nuncio_core::stats::Scope;
use nuncio_core::worker::Workers;
use nuncio_core::{log, stats};
use nuncio_engine::ListenerManager;
use pb::scale_timers_overload_action_config as scale;
use prost::{Message, Name};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use trigger::Triggers;

/// What is read of the overload manager's messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.overload.v3.OverloadManager",
        &["refresh_interval", "resource_monitors", "actions", "loadshed_points"],
    )
    .ignoring(&[(
        "buffer_factory_config",
        "says which streams reset_high_memory_stream looks at, and that action is refused",
    )]),
    Covered::new("envoy.config.overload.v3.ResourceMonitor", &["name", "typed_config"]),
    Covered::new("envoy.config.overload.v3.OverloadAction", &["name", "triggers", "typed_config"]),
    Covered::new("envoy.config.overload.v3.LoadShedPoint", &["name", "triggers"]),
    Covered::new("envoy.config.overload.v3.Trigger", &["name", "threshold", "scaled"]),
    Covered::new("envoy.config.overload.v3.ThresholdTrigger", &["value"]),
    Covered::new("envoy.config.overload.v3.ScaledTrigger", &["scaling_threshold", "saturation_threshold"]),
    Covered::new("envoy.config.overload.v3.ScaleTimersOverloadActionConfig", &["timer_scale_factors"]),
    Covered::new(
        "envoy.config.overload.v3.ScaleTimersOverloadActionConfig.ScaleTimer",
        &["timer", "min_timeout", "min_scale"],
    ),
    Covered::new(
        "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        &["max_heap_size_bytes", "max_heap_size_bytes_runtime"],
    ),
    Covered::new("envoy.config.core.v3.RuntimeUInt64", &["default_value", "runtime_key"]),
    Covered::new(
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        &["max_active_downstream_connections"],
    ),
    Covered::new(
        "envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig",
        &["max_memory_bytes"],
    ),
    Covered::new(
        "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
        &["filename"],
    ),
];

stats! {
    /// `overload.<resource monitor>.`
    struct MonitorStats {
        failed_updates: SharedCounter,
        skipped_updates: SharedCounter,
        pressure: SetGauge,
    }
    /// `overload.<resource monitor>.` of one that decides by itself.
    struct ProactiveStats {
        failed_updates: SharedCounter,
    }
    /// `overload.<overload action>.`
    struct ActionStats {
        active: SetGauge,
        scale_percent: SetGauge,
    }
    /// `overload.envoy.overload_actions.shrink_heap.`
    struct ShrinkStats {
        shrink_count: SharedCounter,
    }
}

/// How often memory is given back while that is asked for (Envoy's value).
const SHRINK_INTERVAL: Duration = Duration::from_secs(10);

/// The overload manager.
pub struct OverloadManager {
    interval: Duration,
    stats: OverloadStats,
    monitors: Vec<Watched>,
    actions: Vec<Action>,
    points: Vec<(Point, Triggers)>,
    _proactive: Option<ProactiveStats>,
    state: Arc<ServerState>,
}

struct Watched {
    name: String,
    monitor: Box<dyn Monitor>,
    stats: MonitorStats,
}

struct Action {
    kind: Kind,
    triggers: Triggers,
    stats: ActionStats,
    state: f64,
}

/// What is done.
enum Kind {
    StopAcceptingRequests,
    DisableHttpKeepalive,
    StopAcceptingConnections,
    RejectIncomingConnections,
    /// When the memory that pools keep was given back last.
    ShrinkHeap(ShrinkStats, Option<std::time::Instant>),
    /// Timers with their minimum.
    ReduceTimeouts(Arc<[(TimerKind, ScaleMinimum)]>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    TcpListenerAccept,
    HttpDecodeHeaders,
}

impl Point {
    fn tell(self, o: &Overload, share: f32) {
        match self {
            Point::TcpListenerAccept => o.tcp_listener_accept.set(share),
            Point::HttpDecodeHeaders => o.http_connection_manager_decode_headers.set(share),
        }
    }
}

impl OverloadManager {
    /// Reads the configuration; stats go below `overload.` of `root`.
    ///
    /// # Errors
    /// It is refused, in Envoy's words, or something in it is not implemented.
    pub fn new(
        c: &pb::OverloadManager,
        root: &Scope,
        state: Arc<ServerState>,
        registry: &Registry,
        runtime: &Runtime,
    ) -> BuildResult<OverloadManager> {
        let scope = root.scope("overload");
        let interval = match &c.refresh_interval {
            None => Duration::from_secs(1),
            Some(d) => Duration::try_from(*d).map_err(|e| BuildError(e.to_string()))?,
        };
        let (mut monitors, mut proactive): (Vec<Watched>, Option<ProactiveStats>) = (vec![], None);
        for r in &c.resource_monitors {
            let known = r.name == CONNECTIONS && proactive.is_some();
            if known || monitors.iter().any(|m| m.name == r.name) {
                return Err(BuildError(format!("Duplicate resource monitor {}", r.name)));
            }
            let own = scope.scope(&r.name);
            match monitor::build(r, registry, runtime)? {
                Built::Connections(max) => {
                    state.overload.connections.set_monitor(max);
                    proactive = Some(ProactiveStats::new(&own));
                }
                Built::Asked(monitor) => {
                    let (name, stats) = (r.name.clone(), MonitorStats::new(&own));
                    monitors.push(Watched { name, monitor, stats });
                }
            }
        }
        let asked = |name: &str| monitors.iter().any(|m| m.name == name);
        let mut actions = vec![];
        for (i, a) in c.actions.iter().enumerate() {
            if c.actions[..i].iter().any(|o| o.name == a.name) {
                return Err(BuildError(format!("Duplicate overload action {}", a.name)));
            }
            let own = scope.scope(&a.name);
            let kind = Kind::new(a, &own)?;
            let what = format!("overload action {}", a.name);
            let triggers = Triggers::new(&a.triggers, &what, |r| asked(r) || r == CONNECTIONS)?;
            actions.push(Action { kind, triggers, stats: ActionStats::new(&own), state: 0.0 });
        }
        let mut points = vec![];
        for (i, p) in c.loadshed_points.iter().enumerate() {
            let (point, at) = match p.name.as_str() {
                "envoy.load_shed_points.tcp_listener_accept" => {
                    (Point::TcpListenerAccept, &state.overload.tcp_listener_accept)
                }
                "envoy.load_shed_points.http_connection_manager_decode_headers" => {
                    (Point::HttpDecodeHeaders, &state.overload.http_connection_manager_decode_headers)
                }
                other => return Err(BuildError::not_implemented(other)),
            };
            if c.loadshed_points[..i].iter().any(|o| o.name == p.name) {
                return Err(BuildError(format!("Duplicate loadshed point {}", p.name)));
            }
            let triggers = Triggers::new(&p.triggers, &format!("loadshed point {}", p.name), asked)?;
            at.configure(LoadShedStats::new(&scope.scope(&p.name)));
            points.push((point, triggers));
        }
        let stats = OverloadStats::new(&scope);
        Ok(OverloadManager { interval, stats, monitors, actions, points, _proactive: proactive, state })
    }

    /// Asks the monitors at every interval, and tells what follows, for ever.
    pub async fn run(mut self, workers: Rc<Workers>, listeners: ListenerManager) {
        if self.monitors.is_empty() {
            return;
        }
        let mut last = clock::now();
        loop {
            clock::sleep(TimerKind::Other, self.interval).await;
            self.refresh(&workers, &listeners);
            let now = clock::now();
            self.stats.refresh_interval_delay().record(now.duration_since(last).as_millis() as u64);
            last = now;
        }
    }

    fn refresh(&mut self, workers: &Workers, listeners: &ListenerManager) {
        for m in &mut self.monitors {
            let pressure = match m.monitor.pressure() {
                Ok(p) => p,
                Err(e) => {
                    log!(Main, Info, "Failed to update resource {}: {e}", m.name);
                    m.stats.failed_updates().inc();
                    continue;
                }
            };
            for a in &mut self.actions {
                if let Some(state) = a.triggers.update(&m.name, pressure) {
                    a.stats.active().set(u64::from(state >= 1.0));
                    a.stats.scale_percent().set((state * 100.0) as u64);
                }
            }
            for (point, triggers) in &mut self.points {
                if triggers.update(&m.name, pressure).is_some() {
                    point.tell(&self.state.overload, triggers.state() as f32);
                }
            }
            m.stats.pressure().set((pressure * 100.0) as u64);
        }
        for a in &mut self.actions {
            let state = a.triggers.state();
            let before = std::mem::replace(&mut a.state, state);
            a.kind.take(before, state, &self.state.overload, workers, listeners);
        }
    }
}

impl Kind {
    fn new(a: &pb::OverloadAction, scope: &Scope) -> BuildResult<Kind> {
        let kind = match a.name.strip_prefix("envoy.overload_actions.") {
            Some("stop_accepting_requests") => Kind::StopAcceptingRequests,
            Some("disable_http_keepalive") => Kind::DisableHttpKeepalive,
            Some("stop_accepting_connections") => Kind::StopAcceptingConnections,
            Some("reject_incoming_connections") => Kind::RejectIncomingConnections,
            Some("shrink_heap") => Kind::ShrinkHeap(ShrinkStats::new(scope), None),
            Some("reduce_timeouts") => return timers(a).map(|all| Kind::ReduceTimeouts(all.into())),
            Some("reset_high_memory_stream") => return Err(BuildError::not_implemented(&a.name)),
            _ => return Err(BuildError(format!("Unknown Overload Manager Action {}", a.name))),
        };
        match a.typed_config {
            None => Ok(kind),
            Some(_) if matches!(kind, Kind::ShrinkHeap(..)) => {
                Err(BuildError::not_implemented("OverloadAction.typed_config of shrink_heap"))
            }
            Some(_) => Err(BuildError(format!(
                "Overload action \"{}\" has an unexpected value for the typed_config field",
                a.name
            ))),
        }
    }

    /// The state of the action was `before` and is `now`.
    fn take(
        &mut self,
        before: f64,
        now: f64,
        overload: &Overload,
        workers: &Workers,
        listeners: &ListenerManager,
    ) {
        match self {
            // Also while nothing changes.
            Kind::ShrinkHeap(stats, last) => {
                let at = clock::now();
                let due = last.is_none_or(|last| at.duration_since(last) >= SHRINK_INTERVAL);
                if now >= 1.0 && due {
                    *last = Some(at);
                    workers.run_on_all(|_| nuncio_wire::buf::release(), || ());
                    nuncio_wire::buf::release();
                    stats.shrink_count().inc();
                }
            }
            _ if before == now => {}
            Kind::StopAcceptingRequests => overload.stop_accepting_requests.set(now as f32),
            Kind::DisableHttpKeepalive => overload.disable_http_keepalive.set(now as f32),
            Kind::RejectIncomingConnections => overload.reject_incoming_connections.set(now as f32),
            Kind::StopAcceptingConnections => listeners.pause(now >= 1.0, || ()),
            Kind::ReduceTimeouts(timers) => {
                let timers = timers.clone();
                let scale = move |_| {
                    for (kind, min) in timers.iter() {
                        clock::set_scale(*kind, Scale { factor: 1.0 - now, min: *min });
                    }
                };
                workers.run_on_all(scale, || ());
            }
        }
    }
}

/// `ScaleTimersOverloadActionConfig`
fn timers(a: &pb::OverloadAction) -> BuildResult<Vec<(TimerKind, ScaleMinimum)>> {
    let none = prost_types::Any::default();
    let any = a.typed_config.as_ref().unwrap_or(&none);
    let name = pb::ScaleTimersOverloadActionConfig::full_name();
    if any.type_url.rsplit('/').next() != Some(&name) {
        return Err(BuildError(format!("Unable to unpack as {name}: [{}]", any.type_url)));
    }
    let c =
        pb::ScaleTimersOverloadActionConfig::decode(&any.value[..]).map_err(|e| BuildError(e.to_string()))?;
    let mut all: Vec<(TimerKind, ScaleMinimum)> = vec![];
    for t in &c.timer_scale_factors {
        use scale::TimerType as T;
        let ty = T::try_from(t.timer);
        let kind = match ty {
            Ok(T::HttpDownstreamConnectionIdle) => TimerKind::HttpDownstreamConnectionIdle,
            Ok(T::HttpDownstreamStreamIdle) => TimerKind::HttpDownstreamStreamIdle,
            Ok(T::TransportSocketConnect) => TimerKind::TransportSocketConnect,
            Ok(T::HttpDownstreamConnectionMax) => TimerKind::HttpDownstreamConnectionMax,
            Ok(T::HttpDownstreamStreamFlush) => TimerKind::HttpDownstreamStreamFlush,
            Ok(T::Unspecified) | Err(_) => return Err(BuildError(format!("Unknown timer type {}", t.timer))),
        };
        use scale::scale_timer::OverloadAdjust as A;
        let min = match &t.overload_adjust {
            Some(A::MinTimeout(d)) => {
                ScaleMinimum::Duration(Duration::try_from(*d).map_err(|e| BuildError(e.to_string()))?)
            }
            Some(A::MinScale(p)) => ScaleMinimum::Fraction(p.value / 100.0),
            None => ScaleMinimum::Fraction(0.0),
        };
        if all.iter().any(|(k, _)| *k == kind) {
            let ty = ty.map_or("", |t| t.as_str_name());
            return Err(BuildError(format!("Found duplicate entry for timer type {ty}")));
        }
        all.push((kind, min));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
