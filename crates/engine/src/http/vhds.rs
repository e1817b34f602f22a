//! Virtual hosts that come when a request asks for them (`RouteConfiguration.vhds`).
//!
//! They add to the routes that RDS brought. A worker asks main for the host of a request ([`ask`], by the `on_demand`
//! filter); main asks the control plane once for each, and lets the requests go on when all workers have its answer.

use super::rds::{LocalRoutes, RouteProvider, RouteProviders};
use nuncio_api::envoy::config::core::v3::ConfigSource;
use nuncio_api::envoy::config::core::v3::api_config_source::ApiType;
use nuncio_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use nuncio_api::envoy::config::route::v3::{self as pb, RouteConfiguration, VirtualHost};
use nuncio_core::discovery::{
    CountUpdates, OnDemand, Removed, Resource, Subscribe, Subscriber, SubscriptionStats, Update,
};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::route::RouteSource;
use nuncio_core::{LocalBoxFuture, stats, worker};
use prost::Message;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::oneshot;

/// So many hosts are asked for, at most: clients choose their names.
const MOST_HOSTS: usize = 65_536;

stats! {
    /// `http.<stat_prefix>.rds.vhds.<route_config_name>.`; [`SubscriptionStats`] are there, too.
    struct VhdsStats {
        config_reload: SharedCounter,
        update_empty: SharedCounter,
    }
}

/// A subscription to virtual hosts, on main.
pub(super) struct Vhds {
    provider: Weak<RouteProvider>,
    config: pb::Vhds,
    hosts: RefCell<BTreeMap<String, VirtualHost>>,
    /// What was asked for.
    asked: RefCell<HashMap<String, Asked>>,
    stats: VhdsStats,
    updates: Rc<dyn CountUpdates>,
    subscription: RefCell<Option<OnDemand>>,
}

enum Asked {
    /// These requests wait; they go on when this is dropped.
    Waiting(Vec<oneshot::Sender<()>>),
    Answered,
}

/// Asks for the virtual host of an authority, on a worker: gives the routes that there are when it was answered.
pub fn ask(slot: u64, authority: &[u8]) -> LocalBoxFuture<'static, Option<Rc<dyn RouteSource>>> {
    let domain = String::from_utf8_lossy(authority).to_ascii_lowercase();
    let (waiting, answered) = oneshot::channel();
    worker::post_to_main(move || {
        let provider = worker::existing::<RouteProviders>().and_then(|all| all.find(slot));
        if let Some(p) = provider
            && let Some(vhds) = p.vhds.borrow().clone()
        {
            vhds.ask(&p, &domain, waiting);
        }
    });
    Box::pin(async move {
        // Nothing is ever sent: who answers lets go.
        let _ = answered.await;
        Some(LocalRoutes::here().get(slot)?.get() as Rc<dyn RouteSource>)
    })
}

/// Takes over what RDS has brought. True when it is ready only with its virtual hosts.
///
/// # Errors
/// The routes are refused, or where the virtual hosts come from.
pub(super) fn update(
    p: &RouteProvider,
    me: &Weak<RouteProvider>,
    c: RouteConfiguration,
    r: &Resource,
    cx: &BuildCx<'_>,
) -> BuildResult<bool> {
    let Some(config) = &c.vhds else {
        p.take(c, r.clone(), cx)?;
        let gone = p.vhds.take();
        drop(gone);
        return Ok(false);
    };
    let source = config.config_source.as_deref().cloned().unwrap_or_default();
    check(&source)?;
    p.discovery.check(&source)?;
    let running = p.vhds.borrow().clone();
    let hosts = running.as_ref().map(|v| v.hosts.borrow().clone()).unwrap_or_default();
    take(p, &c, &hosts, &r.version, cx)?;
    let changed = running.is_none_or(|v| v.config != *config);
    let config = config.clone();
    *p.base.borrow_mut() = Some(c);
    if changed {
        start(p, me, config, &source, hosts)?;
    }
    Ok(changed)
}

/// Only delta protocols can ask for one more.
fn check(source: &ConfigSource) -> BuildResult<()> {
    match &source.config_source_specifier {
        Some(ConfigSourceSpecifier::ApiConfigSource(a)) if a.api_type() != ApiType::DeltaGrpc => {
            Err("vhds: only 'DELTA_GRPC' is supported as an api_type.".into())
        }
        _ => Ok(()),
    }
}

fn start(
    p: &RouteProvider,
    me: &Weak<RouteProvider>,
    config: pb::Vhds,
    source: &ConfigSource,
    hosts: BTreeMap<String, VirtualHost>,
) -> BuildResult<()> {
    let scope = p.filters.scope("rds").scope("vhds").scope(&p.name);
    let updates: Rc<dyn CountUpdates> = Rc::new(SubscriptionStats::new(&scope));
    let vhds = Rc::new(Vhds {
        provider: me.clone(),
        config,
        hosts: RefCell::new(hosts),
        asked: RefCell::default(),
        stats: VhdsStats::new(&scope),
        updates: updates.clone(),
        subscription: RefCell::default(),
    });
    let weak: Weak<Vhds> = Rc::downgrade(&vhds);
    let subscription = p.discovery.subscribe_on_demand(Subscribe {
        kind: "envoy.config.route.v3.VirtualHost",
        source,
        name: Some(&p.name),
        scope: &scope,
        stats: updates,
        subscriber: weak,
    });
    *vhds.subscription.borrow_mut() =
        Some(subscription.ok_or("vhds: only delta protocols can ask for a virtual host")?);
    let old = p.vhds.replace(Some(vhds));
    drop(old);
    Ok(())
}

/// Puts the routes of RDS to use, with these virtual hosts after its own.
fn take(
    p: &RouteProvider,
    base: &RouteConfiguration,
    hosts: &BTreeMap<String, VirtualHost>,
    version: &str,
    cx: &BuildCx<'_>,
) -> BuildResult<()> {
    let mut c = base.clone();
    c.virtual_hosts.extend(hosts.values().cloned());
    let shown = Resource {
        name: p.name.clone(),
        version: Arc::from(version),
        type_url: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration".into(),
        bytes: c.encode_to_vec().into(),
    };
    p.take(c, shown, cx)
}

impl Vhds {
    fn ask(&self, p: &RouteProvider, domain: &str, waiting: oneshot::Sender<()>) {
        let name = format!("{}/{domain}", p.name);
        let mut asked = self.asked.borrow_mut();
        let full = asked.len() >= MOST_HOSTS;
        match asked.get_mut(&name) {
            // What there is now is the answer; the worker may not have it yet.
            Some(Asked::Answered) => return p.published(move || drop(waiting)),
            Some(Asked::Waiting(all)) => {
                all.retain(|w| !w.is_closed());
                all.push(waiting);
                self.updates.attempt();
                return;
            }
            None if full => return,
            None => drop(asked.insert(name.clone(), Asked::Waiting(vec![waiting]))),
        }
        drop(asked);
        self.updates.attempt();
        if let Some(s) = &*self.subscription.borrow() {
            (s.ask)(&name);
        }
    }
}

impl Subscriber for Vhds {
    fn update(&self, u: &Update<'_>, cx: &BuildCx<'_>) -> BuildResult<()> {
        let Some(p) = self.provider.upgrade() else { return Ok(()) };
        let Some(base) = p.base.borrow().clone() else { return Ok(()) };
        let mut hosts = self.hosts.borrow().clone();
        let mut changed = false;
        if let Removed::Named(names) = u.removed {
            changed |= names.iter().filter(|n| hosts.remove(*n).is_some()).count() > 0;
        }
        for r in u.resources {
            let host = VirtualHost::decode(&*r.bytes)
                .map_err(|e| BuildError(format!("Unable to parse protobuf: {e}")))?;
            changed |= hosts.get(&host.name) != Some(&host);
            hosts.insert(host.name.clone(), host);
        }
        match changed {
            true => take(&p, &base, &hosts, u.version, cx)?,
            false => p.reloaded(),
        }
        *self.hosts.borrow_mut() = hosts;
        self.stats.config_reload().inc();
        p.ready();
        Ok(())
    }
    fn give_up(&self) {
        self.provider.upgrade().iter().for_each(|p| p.ready());
    }
    fn answered(&self, ids: &[String]) {
        let mut asked = self.asked.borrow_mut();
        let answered = |id: &String| match std::mem::replace(asked.get_mut(id)?, Asked::Answered) {
            Asked::Waiting(all) => Some(all),
            Asked::Answered => None,
        };
        let waiting: Vec<_> = ids.iter().filter_map(answered).flatten().collect();
        if let Some(p) = self.provider.upgrade().filter(|_| !waiting.is_empty()) {
            p.published(move || drop(waiting));
        }
    }
}
