use super::*;
use nuncio_core::stats::Store;

const PREFIX: &str = "type.googleapis.com/envoy.extensions.resource_monitors.";

fn any(ty: &str, m: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("{PREFIX}{ty}"), value: m.encode_to_vec() }
}

fn monitor(name: &str, any: prost_types::Any) -> pb::ResourceMonitor {
    let config_type = Some(pb::resource_monitor::ConfigType::TypedConfig(any));
    pb::ResourceMonitor { name: name.into(), config_type }
}

fn heap(max: u64) -> pb::ResourceMonitor {
    let c = nuncio_api::envoy::extensions::resource_monitors::fixed_heap::v3::FixedHeapConfig {
        max_heap_size_bytes: max,
        ..Default::default()
    };
    monitor("envoy.resource_monitors.fixed_heap", any("fixed_heap.v3.FixedHeapConfig", &c))
}

fn connections(max: i64) -> pb::ResourceMonitor {
    use nuncio_api::envoy::extensions::resource_monitors::downstream_connections::v3 as d;
    let c = d::DownstreamConnectionsConfig { max_active_downstream_connections: max };
    monitor(CONNECTIONS, any("downstream_connections.v3.DownstreamConnectionsConfig", &c))
}

fn trigger(value: f64) -> pb::Trigger {
    let trigger_oneof = Some(pb::trigger::TriggerOneof::Threshold(pb::ThresholdTrigger { value }));
    pb::Trigger { name: "envoy.resource_monitors.fixed_heap".into(), trigger_oneof }
}

fn action(name: &str, typed_config: Option<prost_types::Any>) -> pb::OverloadAction {
    let name = format!("envoy.overload_actions.{name}");
    pb::OverloadAction { name, triggers: vec![trigger(0.9)], typed_config }
}

fn built(c: &pb::OverloadManager) -> BuildResult<(OverloadManager, Arc<ServerState>, Store)> {
    let (store, state, mut registry) = (Store::new(), Arc::<ServerState>::default(), Registry::default());
    monitor::register(&mut registry);
    let m = OverloadManager::new(c, &store.root(), state.clone(), &registry, &Runtime::new(vec![]))?;
    Ok((m, state, store))
}

fn refused(resource_monitors: Vec<pb::ResourceMonitor>, actions: Vec<pb::OverloadAction>) -> String {
    let c = pb::OverloadManager { resource_monitors, actions, ..Default::default() };
    built(&c).err().expect("refused").0
}

#[test]
fn actions_follow_the_pressure() {
    let (workers, _jobs) = Workers::start(0, &Store::new(), |_| ()).expect("no workers");
    let point = pb::LoadShedPoint {
        name: "envoy.load_shed_points.tcp_listener_accept".into(),
        triggers: vec![trigger(0.5)],
    };
    for (max, share) in [(1, 1.0), (1 << 60, 0.0)] {
        let c = pb::OverloadManager {
            resource_monitors: vec![heap(max), connections(3)],
            actions: ["stop_accepting_requests", "disable_http_keepalive", "shrink_heap"]
                .map(|n| action(n, None))
                .into(),
            loadshed_points: vec![point.clone()],
            ..Default::default()
        };
        let (mut m, state, store) = built(&c).expect("it is good");
        let listeners = ListenerManager::new(&store.root());
        m.refresh(&workers, &listeners);
        m.refresh(&workers, &listeners);
        let o = &state.overload;
        assert_eq!((o.stop_accepting_requests.get(), o.disable_http_keepalive.get()), (share, share));
        assert_eq!(o.reject_incoming_connections.get(), 0.0);
        assert_eq!(o.tcp_listener_accept.sheds(), share == 1.0);
        assert!(o.connections.is_monitored());
        assert_eq!(m.actions[0].stats.active().value(), share as u64);
        assert_eq!(m.actions[0].stats.scale_percent().value(), 100 * share as u64);
        let Kind::ShrinkHeap(s, _) = &m.actions[2].kind else { panic!("the third") };
        // Once in ten seconds.
        assert_eq!(s.shrink_count().value(), share as u64);
    }
}

#[test]
fn refused_in_envoys_words() {
    let words = refused(vec![heap(1), heap(1)], vec![]);
    assert_eq!(words, "Duplicate resource monitor envoy.resource_monitors.fixed_heap");
    let words = refused(vec![connections(1), connections(1)], vec![]);
    assert_eq!(words, format!("Duplicate resource monitor {CONNECTIONS}"));
    let words = refused(vec![heap(1)], vec![action("nonsense", None)]);
    assert_eq!(words, "Unknown Overload Manager Action envoy.overload_actions.nonsense");
    let words = refused(vec![heap(1)], vec![action("reset_high_memory_stream", None)]);
    assert_eq!(words, "not implemented yet: envoy.overload_actions.reset_high_memory_stream");
    let twice = vec![action("shrink_heap", None), action("shrink_heap", None)];
    assert_eq!(refused(vec![heap(1)], twice), "Duplicate overload action envoy.overload_actions.shrink_heap");
    let words = refused(vec![connections(1)], vec![action("shrink_heap", None)]);
    assert_eq!(
        words,
        "Unknown trigger resource envoy.resource_monitors.fixed_heap for overload action \
         envoy.overload_actions.shrink_heap"
    );
    let words = refused(
        vec![heap(1)],
        vec![action("disable_http_keepalive", Some(any("x", &pb::OverloadManager::default())))],
    );
    assert!(words.ends_with("has an unexpected value for the typed_config field"), "{words}");
}

#[test]
fn timers_are_scaled() {
    let timer = |ty: scale::TimerType, adjust| pb::scale_timers_overload_action_config::ScaleTimer {
        timer: ty as i32,
        overload_adjust: Some(adjust),
    };
    use scale::scale_timer::OverloadAdjust as A;
    let percent = A::MinScale(nuncio_api::envoy::r#type::v3::Percent { value: 40.0 });
    let idle = timer(scale::TimerType::HttpDownstreamConnectionIdle, percent);
    let stream = timer(
        scale::TimerType::HttpDownstreamStreamIdle,
        A::MinTimeout(prost_types::Duration { seconds: 2, nanos: 0 }),
    );
    let of = |timers: Vec<pb::scale_timers_overload_action_config::ScaleTimer>| {
        let c = pb::ScaleTimersOverloadActionConfig { timer_scale_factors: timers };
        let any = prost_types::Any {
            type_url: format!("type.googleapis.com/{}", pb::ScaleTimersOverloadActionConfig::full_name()),
            value: c.encode_to_vec(),
        };
        super::timers(&action("reduce_timeouts", Some(any)))
    };
    assert_eq!(
        of(vec![idle, stream]).expect("both are good"),
        [
            (TimerKind::HttpDownstreamConnectionIdle, ScaleMinimum::Fraction(0.4)),
            (TimerKind::HttpDownstreamStreamIdle, ScaleMinimum::Duration(Duration::from_secs(2))),
        ]
    );
    let words = of(vec![idle, idle]).expect_err("twice").0;
    assert_eq!(words, "Found duplicate entry for timer type HTTP_DOWNSTREAM_CONNECTION_IDLE");
}
