use crate::config::{millis, root};
use crate::http::rbac::{Engine, ShadowStats, details, text};
use nuncio_api::envoy::extensions::filters::network::rbac::v3 as pb;
use nuncio_core::body::Body;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::info::ConnInfo;
use nuncio_core::network_filter::{Access, NetworkFilter};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry, StreamShared, stats};
use nuncio_wire::RequestHead;
use pb::rbac::EnforcementType;
use prost_types::Struct;
use std::rc::Rc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Its well-known name, and the name space of the metadata it sets.
pub const NAME: &str = "envoy.filters.network.rbac";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.network.rbac.v3.RBAC",
    &[
        "rules",
        "matcher",
        "shadow_rules",
        "shadow_matcher",
        "shadow_rules_stat_prefix",
        "stat_prefix",
        "enforcement_type",
        "delay_deny",
    ],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.network_filter::<Rbac>(NAME, docs);
}

stats! {
    /// `<stat_prefix>.rbac.`
    pub struct RbacStats {
        allowed: Counter,
        denied: Counter,
    }
}

/// The filter.
pub struct Rbac {
    rules: Option<Engine>,
    shadow: Option<Engine>,
    shadow_prefix: String,
    every_piece: bool,
    delay: Duration,
    stats: RbacStats,
    shadow_stats: ShadowStats,
}

impl NetworkFilter for Rbac {
    type Config = pb::Rbac;
    type State = ();

    fn new(config: pb::Rbac, cx: &BuildCx<'_>) -> BuildResult<Rbac> {
        // A dot that the prefix ends with already is the one between them.
        let prefix = config.stat_prefix.strip_suffix('.').unwrap_or(&config.stat_prefix);
        let scope = root(cx.scope).scope(prefix).scope("rbac");
        Ok(Rbac {
            rules: Engine::of_connections(config.rules.as_ref(), config.matcher.as_ref())?,
            shadow: Engine::of_connections(config.shadow_rules.as_ref(), config.shadow_matcher.as_ref())?,
            every_piece: config.enforcement_type() == EnforcementType::Continuous,
            delay: millis(config.delay_deny.as_ref()).unwrap_or_default(),
            stats: RbacStats::new(&scope),
            shadow_stats: ShadowStats::new(&scope.scope(&config.shadow_rules_stat_prefix)),
            shadow_prefix: config.shadow_rules_stat_prefix,
        })
    }
    fn on_data(&self, (): &mut (), conn: &Rc<ConnInfo>) -> Access {
        let ex = as_request(conn);
        if let Some(engine) = &self.shadow {
            self.shadow(engine, &ex, conn);
        }
        let Some(engine) = &self.rules else { return Access::Granted };
        let verdict = engine.decide(&ex);
        if let Some(log) = verdict.hint {
            conn.metadata.borrow_mut().merge("envoy.common", crate::http::rbac::hint_struct(log));
        }
        if verdict.allowed {
            self.stats.allowed().inc();
            return Access::Granted;
        }
        self.stats.denied().inc();
        *conn.end().termination.borrow_mut() = details(verdict.policy).into();
        Access::Refused(self.delay, "rbac_deny_close")
    }
    fn wants_data(&self) -> bool {
        self.rules.is_some() || self.shadow.is_some()
    }
    fn every_piece(&self) -> bool {
        self.every_piece
    }
}

impl Rbac {
    /// Decides, counts and notes what the shadow rules say.
    fn shadow(&self, engine: &Engine, ex: &Exchange, conn: &ConnInfo) {
        let verdict = engine.decide(ex);
        let (counter, said) = match verdict.allowed {
            true => (self.shadow_stats.shadow_allowed(), "allowed"),
            false => (self.shadow_stats.shadow_denied(), "denied"),
        };
        counter.inc();
        let mut result = Struct::default();
        let prefix = &self.shadow_prefix;
        if let Some(policy) = verdict.policy {
            result.fields.insert(format!("{prefix}shadow_effective_policy_id"), text(policy));
        }
        result.fields.insert(format!("{prefix}shadow_engine_result"), text(said));
        conn.metadata.borrow_mut().merge(NAME, result);
    }
}

/// The connection as a request without headers, which is what rules are made for.
fn as_request(conn: &Rc<ConnInfo>) -> Exchange {
    let sx = StreamShared::new(conn.clone(), None);
    let metadata = conn.metadata.borrow();
    if !metadata.0.is_empty() {
        *sx.info.metadata.borrow_mut() = Some(Box::new(metadata.clone()));
    }
    drop(metadata);
    Exchange::new(RequestHead::default(), Body::Empty, sx)
}
