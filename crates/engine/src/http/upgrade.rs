//! Upgrades and CONNECT: which of them a connection manager and its routes take (`upgrade_configs`).

use super::Hcm;
use super::config::Filters;
use super::{HcmPlan, Last};
use crate::route::{Action, RouteEntry};
use crate::router::Router;
use nuncio_api::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use nuncio_core::Exchange;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::pipeline::Chain;
use nuncio_wire::name;
use pb::http_connection_manager::UpgradeConfig;
use std::rc::Rc;
use std::sync::Arc;

/// One of `HttpConnectionManager.upgrade_configs`.
#[derive(Clone)]
pub struct UpgradePlan {
    kind: String,
    enabled: bool,
    /// `filters`: a chain of its own.
    filters: Option<(Filters, Option<Arc<Router>>)>,
}

/// Reads the upgrades of a connection manager; `filters` builds a chain.
///
/// # Errors
/// One is there twice, or its chain is refused.
pub fn plans(all: &[UpgradeConfig], cx: &BuildCx<'_>) -> BuildResult<Vec<UpgradePlan>> {
    let mut plans: Vec<UpgradePlan> = vec![];
    for u in all {
        if plans.iter().any(|p| p.kind.eq_ignore_ascii_case(&u.upgrade_type)) {
            return Err(BuildError(format!(
                "Error: multiple upgrade configs with the same name: '{}'",
                u.upgrade_type
            )));
        }
        plans.push(UpgradePlan {
            kind: u.upgrade_type.clone(),
            enabled: u.enabled.unwrap_or(true),
            filters: match u.filters.is_empty() {
                true => None,
                false => Some(super::config::filters(&u.filters, cx)?),
            },
        });
    }
    Ok(plans)
}

/// The upgrades of a connection manager on one worker.
pub struct Upgrades(Vec<Upgrade>);

struct Upgrade {
    kind: String,
    enabled: bool,
    chain: Option<(Rc<Chain>, Last)>,
}

impl Upgrades {
    /// On this worker.
    pub fn new(plan: &HcmPlan) -> Upgrades {
        let one = |u: &UpgradePlan| Upgrade {
            kind: u.kind.clone(),
            enabled: u.enabled,
            chain: u.filters.as_ref().map(|(filters, router)| {
                (Rc::new(plan.chain_of(filters)), router.clone().map_or(Last::Nothing, Last::Router))
            }),
        };
        Upgrades(plan.upgrades.iter().map(one).collect())
    }
}

/// What becomes of a request.
pub enum Verdict<'a> {
    /// It asks for no upgrade.
    Plain,
    /// Its upgrade is taken, by this chain when there is one.
    Taken(Option<&'a (Rc<Chain>, Last)>),
    /// Its upgrade is refused.
    Refused,
}

impl Hcm {
    /// Decides about an upgrade. The route has been chosen: it may allow what the connection manager does not, and
    /// forbid what it does. Without a route nothing is refused: there is a better answer.
    pub(super) fn upgrade(&self, ex: &Exchange) -> Verdict<'_> {
        let head = &ex.request;
        let kind = match head.headers.get(name::UPGRADE) {
            Some(kind) => kind,
            None if head.is_connect() => b"CONNECT",
            None => return Verdict::Plain,
        };
        let route = ex.route();
        let routed = route.is_some();
        let route = route.and_then(|r| r.downcast::<RouteEntry>());
        let by_route = route.as_ref().and_then(|r| match &r.action {
            Action::Cluster(c) => c.upgrade(kind),
            _ => None,
        });
        let here = self.upgrades.0.iter().find(|u| kind.eq_ignore_ascii_case(u.kind.as_bytes()));
        if !by_route.unwrap_or_else(|| here.is_some_and(|u| u.enabled)) {
            return if routed { Verdict::Refused } else { Verdict::Plain };
        }
        Verdict::Taken(here.and_then(|u| u.chain.as_ref()))
    }
}
