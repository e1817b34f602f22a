use super::*;
use crate::testing::Main;
use nuncio_api::envoy::config::route::v3 as route;
use nuncio_core::discovery::Resource;
use route::scoped_route_configuration as scoped;

const SRDS: &str = "envoy.config.route.v3.ScopedRouteConfiguration";
const RDS: &str = "envoy.config.route.v3.RouteConfiguration";

#[derive(Default)]
struct Bench(Main);

impl Bench {
    fn run(test: impl AsyncFnOnce(Bench)) {
        let rt = tokio::runtime::Builder::new_current_thread().build_local(Default::default());
        rt.expect("a runtime").block_on(test(Bench::default()));
    }
    fn provide(&self) -> Arc<ScopeSlot> {
        let c = pb::HttpConnectionManager { stat_prefix: "t".into(), ..Default::default() };
        let s = pb::ScopedRoutes { name: "s".into(), ..Default::default() };
        let provided =
            self.0.with(|cx| ScopeProviders::here().provide(&c, &s, &pb::ScopedRds::default(), cx));
        provided.expect("provided")
    }
    /// Who waits for resources of this kind: their names.
    fn wished(&self, kind: &str) -> Vec<Option<String>> {
        let all = self.0.asked.wishes.borrow();
        all.iter().filter(|w| w.kind == kind && w.lives()).map(|w| w.name.clone()).collect()
    }
    fn bring(
        &self,
        kind: &str,
        name: Option<&str>,
        all: &[Resource],
        removed: Removed<'_>,
    ) -> Result<(), String> {
        let wishes = self.0.asked.wishes.borrow().clone();
        let to = wishes.iter().rev().find(|w| w.kind == kind && w.name.as_deref() == name);
        self.0.bring(to.expect("somebody asked"), all, removed)
    }
    fn scopes(&self, all: &[ScopedRouteConfiguration], removed: &[&str]) -> Result<(), String> {
        let all: Vec<_> = all.iter().map(|s| resource(&s.name, SRDS, s.encode_to_vec())).collect();
        let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
        self.bring(SRDS, None, &all, Removed::Named(&removed))
    }
}

fn resource(name: &str, kind: &str, bytes: Vec<u8>) -> Resource {
    let type_url = format!("type.googleapis.com/{kind}");
    Resource { name: name.into(), version: "1".into(), type_url, bytes: bytes.into() }
}

fn scope(name: &str, key: &str, routes: &str) -> ScopedRouteConfiguration {
    let fragment = scoped::key::Fragment { r#type: Some(scoped::key::fragment::Type::StringKey(key.into())) };
    ScopedRouteConfiguration {
        name: name.into(),
        key: Some(scoped::Key { fragments: vec![fragment] }),
        route_configuration_name: routes.into(),
        ..Default::default()
    }
}

fn own(name: &str, key: &str) -> ScopedRouteConfiguration {
    let routes = route::RouteConfiguration { name: "own".into(), ..Default::default() };
    ScopedRouteConfiguration { route_configuration: Some(Box::new(routes)), ..scope(name, key, "") }
}

fn provider(slot: &ScopeSlot) -> Rc<ScopeProvider> {
    ScopeProviders::here().find(slot.id).expect("there")
}

/// What stands behind a key.
fn kind_of(slot: &ScopeSlot, key: &str) -> &'static str {
    let key = key::of(scope("", key, "").key.as_ref());
    match slot.scopes.read().expect("whole").get(&key) {
        None => "nothing",
        Some(ScopePlan::Fixed(_)) => "fixed",
        Some(ScopePlan::Rds(_)) => "rds",
        Some(ScopePlan::OnDemand) => "on demand",
    }
}

#[test]
fn what_is_built_waits_for_the_routes_of_the_first_scopes() {
    Bench::run(async |b| {
        let _slot = b.provide();
        tokio::task::yield_now().await;
        assert_eq!(b.0.init.unready(), ["ConfigSubscriptionCommonBase init target 'SRDS'"]);
        b.scopes(&[scope("one", "1", "rc"), own("two", "2")], &[]).expect("right");
        tokio::task::yield_now().await;
        assert!(!b.0.init.is_ready());
        let routes = route::RouteConfiguration { name: "rc".into(), ..Default::default() };
        let routes = resource("rc", RDS, routes.encode_to_vec());
        b.bring(RDS, Some("rc"), &[routes], Removed::Others).expect("right");
        tokio::task::yield_now().await;
        assert!(b.0.init.is_ready());
        b.scopes(&[scope("three", "3", "later")], &[]).expect("right");
        assert!(b.0.init.is_ready(), "what comes later is not waited for");
    });
}

#[test]
fn two_scopes_with_one_key_are_refused_as_a_whole() {
    Bench::run(async |b| {
        let slot = b.provide();
        b.scopes(&[own("one", "1")], &[]).expect("right");
        let why = b.scopes(&[own("other", "2"), own("two", "1")], &[]).expect_err("refused");
        assert_eq!(
            why,
            "Error adding/updating scoped route(s): scope key conflict found, first scope is 'one', second scope is 'two'"
        );
        assert_eq!((kind_of(&slot, "1"), kind_of(&slot, "2")), ("fixed", "nothing"));
        let why = b.scopes(&[own("two", "2"), own("two", "3")], &[]).expect_err("refused");
        assert!(why.ends_with("duplicate scoped route configuration 'two' found"), "{why}");
        let why = b.scopes(&[scope("two", "2", "")], &[]).expect_err("refused");
        assert_eq!(why, "route_configuration_name is empty.");
    });
}

#[test]
fn scopes_exchange_their_keys_and_go() {
    Bench::run(async |b| {
        let slot = b.provide();
        b.scopes(&[own("one", "1"), scope("two", "2", "rc")], &[]).expect("right");
        b.scopes(&[own("one", "2"), scope("two", "1", "rc")], &[]).expect("right");
        assert_eq!((kind_of(&slot, "1"), kind_of(&slot, "2")), ("rds", "fixed"));
        assert_eq!(b.wished(RDS), [Some("rc".to_owned())], "the subscription stays");
        b.scopes(&[], &["two"]).expect("right");
        assert_eq!((kind_of(&slot, "1"), kind_of(&slot, "2")), ("nothing", "fixed"));
        assert!(b.wished(RDS).is_empty());
        let p = provider(&slot);
        assert_eq!((p.stats.all_scopes().value(), p.stats.active_scopes().value()), (1, 0));
        drop(p);
        drop(slot);
        assert!(b.wished(SRDS).is_empty());
    });
}

#[test]
fn routes_on_demand_come_when_a_request_asks() {
    Bench::run(async |b| {
        let slot = b.provide();
        let config = ScopedRouteConfiguration { on_demand: true, ..scope("one", "1", "rc") };
        b.scopes(std::slice::from_ref(&config), &[]).expect("right");
        assert_eq!((kind_of(&slot, "1"), b.wished(RDS).len()), ("on demand", 0));
        let p = provider(&slot);
        let ask = |key: &str| {
            let (waiting, answered) = oneshot::channel();
            p.ask(&key::of(scope("", key, "").key.as_ref()), waiting);
            answered
        };
        let mut nowhere = ask("2");
        assert_eq!(nowhere.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let mut first = ask("1");
        assert_eq!((kind_of(&slot, "1"), b.wished(RDS).len()), ("rds", 1));
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        let routes = route::RouteConfiguration { name: "rc".into(), ..Default::default() };
        let routes = resource("rc", RDS, routes.encode_to_vec());
        b.bring(RDS, Some("rc"), &[routes], Removed::Others).expect("right");
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(ask("1").try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!((p.stats.on_demand_scopes().value(), p.stats.active_scopes().value()), (1, 1));
    });
}
