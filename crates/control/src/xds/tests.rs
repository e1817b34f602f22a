//! The two protocols without sockets, and what a mux makes of responses.

use super::delta::Delta;
use super::mux::{ControlPlaneStats, Mux};
use super::resource::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST, method, name_in, type_url};
use super::sotw::Sotw;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use nuncio_core::stats::Store;
use prost::Message;
use std::rc::Rc;

/// A request as `TYPE names version nonce refusal`.
fn told(r: &DiscoveryRequest) -> String {
    let kind = r.type_url.rsplit('.').next().unwrap_or_default();
    let refusal = r.error_detail.as_ref().map(|e| format!(" !{}", e.message)).unwrap_or_default();
    format!("{kind} {:?} v{} n{}{refusal}", r.resource_names, r.version_info, r.response_nonce)
}
fn all(s: &mut Sotw) -> Vec<String> {
    std::iter::from_fn(|| s.next()).map(|r| told(&r)).collect()
}
fn delta_told(r: &DeltaDiscoveryRequest) -> String {
    let kind = r.type_url.rsplit('.').next().unwrap_or_default();
    let refusal = r.error_detail.as_ref().map(|e| format!(" !{}", e.message)).unwrap_or_default();
    let known: Vec<_> = r.initial_resource_versions.iter().map(|(n, v)| format!("{n}={v}")).collect();
    format!(
        "{kind} +{:?} -{:?} {known:?} n{}{refusal}",
        r.resource_names_subscribe, r.resource_names_unsubscribe, r.response_nonce
    )
}
fn delta_all(d: &mut Delta) -> Vec<String> {
    std::iter::from_fn(|| d.next()).map(|r| delta_told(&r)).collect()
}

#[test]
fn a_world_is_asked_for_acknowledged_and_refused() {
    let (cds, eds) = (type_url(CLUSTER), type_url(ENDPOINTS));
    let mut s = Sotw::default();
    s.subscribe(&cds, None);
    s.connected();
    assert_eq!(all(&mut s), ["Cluster [] v n"]);
    // What clusters ask for while they are taken over is one request, before the acknowledgement.
    s.pause(&cds);
    s.pause(&eds);
    s.subscribe(&eds, Some("b"));
    s.subscribe(&eds, Some("a"));
    assert!(all(&mut s).is_empty());
    s.resume(&eds);
    s.answered(&cds, "1", Ok("7"));
    s.resume(&cds);
    assert_eq!(all(&mut s), [r#"ClusterLoadAssignment ["a", "b"] v n"#, "Cluster [] v7 n1"]);
    s.answered(&cds, "2", Err("no good"));
    assert_eq!(all(&mut s), ["Cluster [] v7 n2 !no good"]);
    // The refusal is said once.
    s.answered(&cds, "3", Ok("9"));
    assert_eq!(all(&mut s), ["Cluster [] v9 n3"]);
    s.answered(&eds, "e1", Ok("1"));
    s.unsubscribe(&eds, Some("a"));
    assert_eq!(all(&mut s), [r#"ClusterLoadAssignment ["b"] v1 ne1"#]);
    s.unsubscribe(&eds, Some("b"));
    assert_eq!(all(&mut s), ["ClusterLoadAssignment [] v1 ne1"]);
    // Nobody wants any more: what comes anyway is answered without taking its version, unless it is empty.
    assert_eq!((s.is_wanted(&eds), s.is_wanted(&cds), s.is_wanted("x")), (Some(false), Some(true), None));
    s.unwanted(&eds, "e2", "2", false);
    assert_eq!(all(&mut s), ["ClusterLoadAssignment [] v1 ne2"]);
    s.unwanted(&eds, "e3", "3", true);
    assert!(all(&mut s).is_empty());
    // Another stream begins with versions and without nonces, in the order of the first one.
    s.disconnected();
    s.subscribe(&eds, Some("c"));
    s.connected();
    assert_eq!(all(&mut s), ["Cluster [] v9 n", r#"ClusterLoadAssignment ["c"] v3 n"#]);
}

#[test]
fn names_wanted_twice_stay_until_both_let_go() {
    let eds = type_url(ENDPOINTS);
    let mut s = Sotw::default();
    s.subscribe(&eds, Some("a"));
    s.subscribe(&eds, Some("a"));
    s.unsubscribe(&eds, Some("a"));
    assert_eq!(all(&mut s), [r#"ClusterLoadAssignment ["a"] v n"#]);
    s.unsubscribe(&eds, Some("a"));
    assert_eq!(all(&mut s), ["ClusterLoadAssignment [] v n"]);
}

#[test]
fn long_refusals_are_cut() {
    let cds = type_url(CLUSTER);
    let mut s = Sotw::default();
    s.subscribe(&cds, None);
    s.answered(&cds, "1", Err(&"ä".repeat(4000)));
    let message = s.next().and_then(|r| r.error_detail).expect("a refusal").message;
    assert!(message.len() < 4200 && message.ends_with("ä...(truncated)"), "{}", message.len());
}

#[test]
fn a_delta_stream_from_its_begin_to_the_next_one() {
    let (cds, eds) = (type_url(CLUSTER), type_url(ENDPOINTS));
    let mut d = Delta::default();
    d.subscribe(&cds, None);
    d.connected();
    assert_eq!(delta_all(&mut d), ["Cluster +[] -[] [] n"], "all, the old way");
    d.took(&cds, [("u", "1")], &[]);
    d.subscribe(&eds, Some("svc"));
    d.answered(&cds, "c1", Ok(()));
    let both = delta_all(&mut d);
    assert_eq!(
        both,
        [r#"ClusterLoadAssignment +["svc"] -[] [] n"#, "Cluster +[] -[] [] nc1"],
        "what was wanted before the answer comes before it"
    );
    d.took(&eds, [("svc", "5"), ("foreign", "1")], &[]);
    d.answered(&eds, "e1", Err("bad"));
    assert_eq!(delta_all(&mut d), ["ClusterLoadAssignment +[] -[] [] ne1 !bad"]);
    // Wanted twice, asked for once; let go once, nothing is said.
    d.subscribe(&eds, Some("svc"));
    d.unsubscribe(&eds, Some("svc"));
    assert!(delta_all(&mut d).is_empty());
    d.subscribe(&eds, Some("other"));
    d.connected();
    assert_eq!(
        delta_all(&mut d),
        [r#"Cluster +[] -[] ["u=1"] n"#, r#"ClusterLoadAssignment +["other", "svc"] -[] ["svc=5"] n"#]
    );
    d.unsubscribe(&eds, Some("svc"));
    d.unsubscribe(&eds, Some("other"));
    assert_eq!(delta_all(&mut d), [r#"ClusterLoadAssignment +[] -["other", "svc"] [] n"#]);
    assert_eq!(d.is_wanted(&eds), Some(false));
    d.took(&cds, [], &["u".to_owned()]);
    d.connected();
    assert_eq!(delta_all(&mut d), ["Cluster +[] -[] [] n"], "nothing known, nothing else wanted");
}

#[test]
fn all_and_some_by_name() {
    let cds = type_url(CLUSTER);
    let mut d = Delta::default();
    d.subscribe(&cds, None);
    d.connected();
    delta_all(&mut d);
    d.took(&cds, [("a", "1"), ("b", "1")], &[]);
    d.subscribe(&cds, Some("a"));
    assert_eq!(delta_all(&mut d), [r#"Cluster +["a"] -[] [] n"#]);
    d.connected();
    assert_eq!(delta_all(&mut d), [r#"Cluster +["*", "a"] -[] ["a=1", "b=1"] n"#]);
    d.unsubscribe(&cds, Some("a"));
    assert_eq!(delta_all(&mut d), [r#"Cluster +[] -["a"] [] n"#]);
    d.connected();
    assert_eq!(delta_all(&mut d), [r#"Cluster +[] -[] ["a=1", "b=1"] n"#], "a may be one of all");
}

#[test]
fn a_paused_type_waits_and_others_go_on() {
    let (cds, rds) = (type_url(LISTENER), type_url(ROUTES));
    let mut d = Delta::default();
    d.subscribe(&cds, None);
    d.subscribe(&rds, Some("r"));
    d.pause(&rds);
    d.pause(&rds);
    assert_eq!(delta_all(&mut d), ["Listener +[] -[] [] n"]);
    assert_eq!(d.pending(), 1);
    d.resume(&rds);
    assert!(delta_all(&mut d).is_empty());
    d.resume(&rds);
    assert_eq!(delta_all(&mut d), [r#"RouteConfiguration +["r"] -[] [] n"#]);
}

#[test]
fn methods_and_names() {
    assert_eq!(
        method(CLUSTER, true).as_deref(),
        Some("envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters")
    );
    assert_eq!(
        method(ROUTES, false).as_deref(),
        Some("envoy.service.route.v3.RouteDiscoveryService/StreamRoutes")
    );
    assert_eq!(method("x", false), None);
    let c = Cluster { name: "c".into(), ..Default::default() };
    assert_eq!((name_in(&c.encode_to_vec()), name_in(b"\xff\xff")), ("c".to_owned(), String::new()));
}

mod mux {
    use super::*;
    use crate::xds::watch::Watch;
    use nuncio_core::discovery::{CountUpdates, Removed, Subscriber, SubscriptionStats, Update};
    use nuncio_core::error::BuildResult;
    use nuncio_core::filter::BuildCx;
    use std::cell::RefCell;
    use std::rc::Weak;

    #[derive(Default)]
    struct Heard(RefCell<Vec<String>>);
    impl Subscriber for Heard {
        fn update(&self, u: &Update<'_>, _: &BuildCx<'_>) -> BuildResult<()> {
            let names: Vec<_> = u.resources.iter().map(|r| r.name.as_str()).collect();
            let removed = match u.removed {
                Removed::Named(n) => format!("{n:?}"),
                Removed::Others => "others".into(),
            };
            self.0.borrow_mut().push(format!("{names:?} without {removed}"));
            match names.contains(&"bad") {
                true => Err("bad: is bad".into()),
                false => Ok(()),
            }
        }
        fn give_up(&self) {
            self.0.borrow_mut().push("given up".into());
        }
        fn answered(&self, ids: &[String]) {
            self.0.borrow_mut().push(format!("answered {ids:?}"));
        }
    }

    struct Lab {
        mux: Rc<Mux>,
        stats: SubscriptionStats,
        heard: Rc<Heard>,
        base: Rc<crate::xds::base::Base>,
        _store: Store,
    }

    fn lab(delta: bool, kind: &'static str, name: Option<&str>) -> (Lab, Rc<Watch>) {
        lab_of(delta, |stats, heard, base| Watch::new(kind, name, stats, heard, base))
    }
    fn lab_of(
        delta: bool,
        watch: impl FnOnce(Rc<dyn CountUpdates>, Weak<Heard>, Weak<crate::xds::base::Base>) -> Rc<Watch>,
    ) -> (Lab, Rc<Watch>) {
        let store = Store::new();
        let base = crate::xds::base::tests::base(&store);
        let node = Rc::new(core::Node { id: "me".into(), ..Default::default() });
        let mux = Mux::new(delta, node, true, ControlPlaneStats::new(&store.scope("control_plane")));
        let (stats, heard) = (SubscriptionStats::new(&store.scope("s")), Rc::<Heard>::default());
        let subscriber: Weak<Heard> = Rc::downgrade(&heard);
        let counted: Rc<dyn CountUpdates> = Rc::new(stats.clone());
        let watch = watch(counted, subscriber, Rc::downgrade(&base));
        mux.add(&watch);
        (Lab { mux, stats, heard, base, _store: store }, watch)
    }
    fn run<T>(f: impl Future<Output = T>) -> T {
        let rt = tokio::runtime::Builder::new_current_thread();
        let mut rt = rt;
        rt.enable_all();
        rt.build_local(tokio::runtime::LocalOptions::default()).expect("a runtime").block_on(f)
    }
    fn cluster(name: &str) -> prost_types::Any {
        let c = Cluster { name: name.into(), ..Default::default() };
        prost_types::Any { type_url: type_url(CLUSTER), value: c.encode_to_vec() }
    }
    fn sotw(nonce: &str, clusters: &[&str]) -> bytes::Bytes {
        let r = DiscoveryResponse {
            version_info: format!("v{nonce}"),
            nonce: nonce.into(),
            type_url: type_url(CLUSTER),
            resources: clusters.iter().map(|c| cluster(c)).collect(),
            ..Default::default()
        };
        r.encode_to_vec().into()
    }
    fn requests(mux: &Mux) -> Vec<DiscoveryRequest> {
        let next = || mux.request().map(|b| DiscoveryRequest::decode(b).expect("a request"));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn responses_reach_the_subscriber_and_are_answered() {
        run(async {
            let (lab, watch) = lab(false, CLUSTER, None);
            lab.mux.connected();
            let first = requests(&lab.mux);
            assert_eq!(first[0].node.as_ref().map(|n| n.id.as_str()), Some("me"));
            lab.mux.response(sotw("1", &["a", "b"])).await.expect("well-formed");
            let r = requests(&lab.mux);
            assert_eq!(told(&r[0]), "Cluster [] vv1 n1");
            assert!(r[0].node.is_none(), "only the first message has it");
            lab.mux.response(sotw("2", &["a", "bad"])).await.expect("well-formed");
            assert_eq!(told(&requests(&lab.mux)[0]), "Cluster [] vv1 n2 !bad: is bad");
            let heard = lab.heard.0.borrow().clone();
            assert_eq!(heard, [r#"["a", "b"] without others"#, r#"["a", "bad"] without others"#, "given up"]);
            let s = &lab.stats;
            let counts =
                (s.update_attempt().value(), s.update_success().value(), s.update_rejected().value());
            assert_eq!(counts, (2, 1, 1));
            assert_eq!(&*s.version_text().value(), "v1");
            // A stream that ends is a failure of each subscription.
            lab.mux.disconnected();
            assert_eq!((s.update_failure().value(), s.update_attempt().value()), (1, 3));
            // What nobody has ever asked for, and what is no response.
            let other = DiscoveryResponse { type_url: "x/y".into(), ..Default::default() };
            lab.mux.response(other.encode_to_vec().into()).await.expect("passed over");
            assert!(lab.mux.response(bytes::Bytes::from_static(b"\xff\xff\xff")).await.is_err());
            lab.mux.remove(&watch);
            drop(lab.base);
        });
    }

    #[test]
    fn resources_of_another_type_are_refused() {
        run(async {
            let (lab, _watch) = lab(false, CLUSTER, None);
            lab.mux.connected();
            requests(&lab.mux);
            let foreign = prost_types::Any { type_url: type_url(LISTENER), value: vec![] };
            let r = DiscoveryResponse {
                type_url: type_url(CLUSTER),
                resources: vec![foreign],
                ..Default::default()
            };
            lab.mux.response(r.encode_to_vec().into()).await.expect("well-formed");
            let refusal = requests(&lab.mux)[0].error_detail.clone().expect("a refusal").message;
            assert!(refusal.contains("does not match the message-wide type URL"), "{refusal}");
        });
    }

    #[test]
    fn deltas_come_and_go_and_end_with_their_time() {
        run(async {
            let (lab, _watch) = lab(true, CLUSTER, None);
            lab.mux.connected();
            assert!(lab.mux.request().is_some());
            let wrapped = |name: &str, ttl: Option<i64>| Resource {
                name: name.into(),
                version: "1".into(),
                resource: Some(cluster(name)),
                ttl: ttl.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
                ..Default::default()
            };
            let r = DeltaDiscoveryResponse {
                type_url: type_url(CLUSTER),
                nonce: "1".into(),
                resources: vec![wrapped("a", Some(1000)), wrapped("b", None)],
                removed_resources: vec!["c".into()],
                ..Default::default()
            };
            lab.mux.response(r.encode_to_vec().into()).await.expect("well-formed");
            assert!(lab.mux.next_end().is_some());
            // Its time begins anew without the resource being sent again; then it has none.
            let mut beat = wrapped("a", None);
            beat.resource = None;
            let r = DeltaDiscoveryResponse {
                type_url: type_url(CLUSTER),
                resources: vec![beat],
                ..Default::default()
            };
            lab.mux.response(r.encode_to_vec().into()).await.expect("well-formed");
            assert!(lab.mux.next_end().is_none());
            let twice = DeltaDiscoveryResponse {
                type_url: type_url(CLUSTER),
                nonce: "3".into(),
                resources: vec![wrapped("a", None), wrapped("a", None)],
                ..Default::default()
            };
            lab.mux.response(twice.encode_to_vec().into()).await.expect("well-formed");
            let mut last = None;
            while let Some(b) = lab.mux.request() {
                last = DeltaDiscoveryRequest::decode(b).ok();
            }
            let refusal = last.and_then(|r| r.error_detail).expect("a refusal").message;
            assert_eq!(refusal, "duplicate name a found among added/updated resources");
            assert_eq!(lab.heard.0.borrow()[0], r#"["a", "b"] without ["c"]"#);
        });
    }

    #[test]
    fn what_is_asked_for_comes_with_its_aliases() {
        use nuncio_api::envoy::config::route::v3::VirtualHost;
        run(async {
            let (lab, watch) = lab_of(true, |stats, heard, base| {
                Watch::on_demand(VIRTUAL_HOST, Some("rc"), stats, heard, base)
            });
            let told = || -> Vec<String> {
                let next = || lab.mux.request().map(|b| DeltaDiscoveryRequest::decode(b).expect("a request"));
                std::iter::from_fn(next).map(|r| delta_told(&r)).collect()
            };
            lab.mux.connected();
            assert_eq!(told(), ["VirtualHost +[] -[] [] n"]);
            let one = |name: &str, aliases: &[&str], there: bool| {
                let host =
                    VirtualHost { name: name.into(), domains: vec![name.into()], ..Default::default() };
                let any = prost_types::Any { type_url: type_url(VIRTUAL_HOST), value: host.encode_to_vec() };
                Resource {
                    name: name.into(),
                    version: "1".into(),
                    resource: there.then_some(any),
                    aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
                    ..Default::default()
                }
            };
            let says = |nonce: &str, resources: Vec<Resource>, removed: &[&str]| -> bytes::Bytes {
                let r = DeltaDiscoveryResponse {
                    type_url: type_url(VIRTUAL_HOST),
                    nonce: nonce.into(),
                    resources,
                    removed_resources: removed.iter().map(|n| (*n).to_owned()).collect(),
                    ..Default::default()
                };
                r.encode_to_vec().into()
            };
            // An empty answer is none.
            lab.mux.response(says("1", vec![], &[])).await.expect("well-formed");
            assert_eq!(told(), ["VirtualHost +[] -[] [] n1"]);
            assert_eq!(lab.stats.update_success().value(), 0);
            lab.mux.ask(&watch, "rc/a");
            lab.mux.ask(&watch, "rc/a");
            assert_eq!(told(), [r#"VirtualHost +["rc/a"] -[] [] n"#]);
            let both = vec![one("rc/b", &["rc/a"], true), one("elsewhere/c", &[], true)];
            lab.mux.response(says("2", both, &[])).await.expect("well-formed");
            lab.mux
                .response(says("3", vec![one("rc/d", &[], false)], &["rc/b", "x/y"]))
                .await
                .expect("well-formed");
            let heard = lab.heard.0.borrow().clone();
            assert_eq!(
                heard,
                [
                    r#"["rc/b"] without []"#,
                    r#"answered ["rc/b", "rc/a"]"#,
                    r#"[] without ["rc/b"]"#,
                    r#"answered ["rc/d", "rc/b"]"#
                ]
            );
            // The next stream is told what was asked for, and what has come.
            assert_eq!(told().len(), 2);
            lab.mux.disconnected();
            lab.mux.connected();
            assert_eq!(told(), [r#"VirtualHost +["rc/a"] -[] ["elsewhere/c=1"] n"#]);
            lab.mux.remove(&watch);
            assert_eq!(told(), [r#"VirtualHost +[] -["rc/a"] [] n"#]);
        });
    }
}
