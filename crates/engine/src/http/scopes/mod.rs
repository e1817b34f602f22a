//! Scoped routes (`HttpConnectionManager.scoped_routes`): headers of a request say which of several route tables it goes
//! by. [`key`] reads them; the tables stand in the configuration, or come from a control plane ([`srds`]).

mod key;
pub mod srds;

use super::config::filter_scope;
use super::rds::{RouteCell, RouteSlot};
use crate::route::{RouteTable, TableSource};
use key::{Key, KeyBuilder};
use nuncio_api::envoy::config::route::v3::ScopedRouteConfiguration;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_core::LocalBoxFuture;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::hash::TrustedMap;
use nuncio_core::info::StreamShared;
use nuncio_core::route::{Route, RouteSource};
use nuncio_wire::RequestHead;
use pb::scoped_routes::ConfigSpecifier;
use srds::{ScopeProviders, ScopeSlot};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// What is read of scoped routes.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes",
        &["name", "scope_key_builder", "rds_config_source", "scoped_route_configurations_list", "scoped_rds"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRouteConfigurationsList",
        &["scoped_route_configurations"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRds",
        &["scoped_rds_config_source"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder",
        &["fragments"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder",
        &["header_value_extractor"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor",
        &["name", "element_separator", "index", "element"],
    ),
    Covered::new(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor.KvElement",
        &["separator", "key"],
    ),
    Covered::new(
        "envoy.config.route.v3.ScopedRouteConfiguration",
        &["name", "on_demand", "route_configuration_name", "route_configuration", "key"],
    ),
    Covered::new("envoy.config.route.v3.ScopedRouteConfiguration.Key", &["fragments"]),
    Covered::new("envoy.config.route.v3.ScopedRouteConfiguration.Key.Fragment", &["string_key"]),
];

/// The scopes of a connection manager, as main builds them.
#[derive(Clone)]
pub struct ScopesPlan {
    keys: Arc<KeyBuilder>,
    from: From,
}

#[derive(Clone)]
enum From {
    /// They stand in the configuration.
    Inline(Arc<[(Key, ScopePlan)]>),
    /// A control plane brings them.
    Srds(Arc<ScopeSlot>),
}

/// The routes of one scope, on main.
#[derive(Clone)]
enum ScopePlan {
    /// They came with the scope.
    Fixed(Arc<RouteTable>),
    /// A subscription brings them.
    Rds(Arc<RouteSlot>),
    /// They are asked for when a request needs them.
    OnDemand,
}

/// The same on a worker.
enum Scope {
    Fixed(Rc<TableSource>),
    Rds(Rc<RouteCell>),
    OnDemand,
}

impl ScopesPlan {
    /// Compiles scoped routes.
    ///
    /// # Errors
    /// They are refused.
    pub fn new(
        c: &pb::HttpConnectionManager,
        s: &pb::ScopedRoutes,
        cx: &BuildCx<'_>,
    ) -> BuildResult<ScopesPlan> {
        let keys = KeyBuilder::new(&s.scope_key_builder.clone().unwrap_or_default())?;
        let from = match &s.config_specifier {
            Some(ConfigSpecifier::ScopedRouteConfigurationsList(l)) => {
                let cx = BuildCx { scope: &filter_scope(c, cx), ..*cx };
                let all = l.scoped_route_configurations.iter().map(|s| inline(s, &cx));
                From::Inline(named(all.collect::<BuildResult<Vec<_>>>()?).into())
            }
            Some(ConfigSpecifier::ScopedRds(d)) => From::Srds(ScopeProviders::here().provide(c, s, d, cx)?),
            None => return Err("field: \"config_specifier\", reason: is required".into()),
        };
        Ok(ScopesPlan { keys: Arc::new(keys), from })
    }
    /// For one worker.
    pub fn instantiate(&self) -> Rc<ScopeSource> {
        let (scopes, slot) = match &self.from {
            From::Inline(all) => {
                let of = |(k, s): &(Key, ScopePlan)| (k.as_slice().into(), Scope::new(s));
                (Rc::new(Scopes(RefCell::new(all.iter().map(of).collect()))), None)
            }
            From::Srds(slot) => (slot.scopes(), Some(slot.id())),
        };
        Rc::new_cyclic(|me| ScopeSource { keys: self.keys.clone(), scopes, slot, me: me.clone() })
    }
}

/// A scope that stands in the configuration, with its name.
fn inline(s: &ScopedRouteConfiguration, cx: &BuildCx<'_>) -> BuildResult<(String, Key, ScopePlan)> {
    if !s.route_configuration_name.is_empty() {
        return Err(
            "Fetching routes via RDS (route_configuration_name) is not supported with inline scoped \
                    routes."
                .into(),
        );
    }
    let Some(routes) = &s.route_configuration else {
        return Err("You must specify a route_configuration with inline scoped routes.".into());
    };
    let table = Arc::new(RouteTable::new(routes, cx)?);
    Ok((s.name.clone(), key::of(s.key.as_ref()), ScopePlan::Fixed(table)))
}

/// Of scopes with the same name the last one stays, as in Envoy.
fn named(all: Vec<(String, Key, ScopePlan)>) -> Vec<(Key, ScopePlan)> {
    let mut left: Vec<(String, Key, ScopePlan)> = vec![];
    for scope in all {
        left.retain(|other| other.0 != scope.0);
        left.push(scope);
    }
    left.into_iter().map(|(_, key, plan)| (key, plan)).collect()
}

impl Scope {
    fn new(s: &ScopePlan) -> Scope {
        match s {
            ScopePlan::Fixed(table) => Scope::Fixed(Rc::new(TableSource::new(table.clone()))),
            ScopePlan::Rds(slot) => Scope::Rds(slot.cell()),
            ScopePlan::OnDemand => Scope::OnDemand,
        }
    }
}

/// The scopes of one worker.
#[derive(Default)]
pub(super) struct Scopes(RefCell<TrustedMap<Box<[u8]>, Scope>>);

/// Chooses routes from the table of the scope that a request is in.
pub struct ScopeSource {
    keys: Arc<KeyBuilder>,
    scopes: Rc<Scopes>,
    /// Number of the subscription.
    slot: Option<u64>,
    me: Weak<ScopeSource>,
}

impl ScopeSource {
    /// The table of a scope, where there is one.
    fn table(&self, key: &Key) -> Option<Rc<TableSource>> {
        match self.scopes.0.borrow().get(key.as_slice())? {
            Scope::Fixed(table) => Some(table.clone()),
            Scope::Rds(cell) => Some(cell.get()),
            Scope::OnDemand => None,
        }
    }
    fn is_known(&self, key: &Key) -> bool {
        self.scopes.0.borrow().contains_key(key.as_slice())
    }
}

impl RouteSource for ScopeSource {
    fn choose(&self, head: &RequestHead, sx: &StreamShared) -> Option<Arc<dyn Route>> {
        // A filter may have changed the headers, so the scope is looked for each time.
        self.table(&self.keys.key(head)?)?.choose(head, sx)
    }
    fn ask(&self, head: &RequestHead) -> Option<LocalBoxFuture<'static, Option<Rc<dyn RouteSource>>>> {
        let slot = self.slot?;
        let key = self.keys.key(head)?;
        match self.table(&key) {
            Some(there) if !there.is_missing() => there.ask(head),
            _ if !self.is_known(&key) => None,
            _ => Some(srds::ask(slot, key, self.me.clone())),
        }
    }
}

/// What is refused of a scope that a control plane brings.
fn checked(s: &ScopedRouteConfiguration) -> BuildResult<()> {
    match s.route_configuration.is_none() && s.route_configuration_name.is_empty() {
        true => Err(BuildError::from("route_configuration_name is empty.")),
        false => Ok(()),
    }
}
