use crate::config::request_cx;
use matcher::Matcher;
use nuncio_api::envoy::config::rbac::v3 as rbac;
use nuncio_api::envoy::extensions::filters::http::rbac::v3 as pb;
use nuncio_api::xds::r#type::matcher::v3::Matcher as PbMatcher;
use nuncio_core::cel::{self, Program};
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::match_tree::Tree;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry, StreamShared, stats};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use rbac::rbac::Action;
use std::sync::Arc;

mod matcher;
mod tree;

/// Its well-known name, and the name space of the metadata it sets.
pub const NAME: &str = "envoy.filters.http.rbac";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        &[
            "rules",
            "rules_stat_prefix",
            "matcher",
            "shadow_rules",
            "shadow_rules_stat_prefix",
            "shadow_matcher",
            "track_per_rule_stats",
        ],
    ),
    Covered::new("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", &["rbac"]),
    Covered::new("envoy.config.rbac.v3.RBAC", &["action", "policies"]),
    Covered::new("envoy.config.rbac.v3.Policy", &["permissions", "principals", "condition", "cel_config"]),
    matcher::COVERED[0],
    matcher::COVERED[1],
    matcher::COVERED[2],
    matcher::COVERED[3],
    matcher::COVERED[4],
    matcher::COVERED[5],
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<Rbac>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.rbac.<rules_stat_prefix>.`
    pub struct RbacStats {
        allowed: Counter,
        denied: Counter,
        policy: CounterFamily = "policy.",
    }
    /// Below `http.<stat_prefix>.rbac.<shadow_rules_stat_prefix>.`
    pub struct ShadowStats {
        shadow_allowed: Counter,
        shadow_denied: Counter,
        policy: CounterFamily = "policy.",
    }
}

/// The filter.
pub struct Rbac {
    config: Arc<Config>,
    stats: RbacStats,
    shadow_stats: ShadowStats,
}

/// The rules of the filter, or of a route.
pub struct Config {
    rules: Option<Engine>,
    shadow: Option<Engine>,
    rules_prefix: String,
    shadow_prefix: String,
    per_rule: bool,
}

/// What decides.
pub(crate) enum Engine {
    /// Policies in the order of their names, and what becomes of a request that matches one.
    Policies(Action, Vec<Policy>),
    /// A tree of named actions, and whether LOG is among them.
    Tree(Tree<tree::Rbac>, bool),
}

/// One of `policies`.
pub(crate) struct Policy {
    name: String,
    permissions: Matcher,
    principals: Matcher,
    condition: Option<Program>,
}

impl Policy {
    fn matches(&self, ex: &Exchange) -> bool {
        let holds = |p: &Program| {
            let route = ex.sx.current_route();
            p.matches(&request_cx(&ex.request.headers, &ex.sx, route.as_deref()))
        };
        self.permissions.matches(ex)
            && self.principals.matches(ex)
            && self.condition.as_ref().is_none_or(holds)
    }
}

/// `condition`
fn condition(p: &rbac::Policy) -> BuildResult<Option<Program>> {
    let options = cel::Options::new(p.cel_config.as_ref());
    p.condition.as_ref().map(|e| Program::of_alpha(e, options)).transpose()
}

/// What it decides.
pub(crate) struct Verdict<'a> {
    /// The request may pass.
    pub allowed: bool,
    /// By which policy or action, if by any.
    pub policy: Option<&'a str>,
    /// What loggers are told, if they are.
    pub hint: Option<bool>,
}

impl Engine {
    /// From the two forms; the matcher counts where both are there.
    fn new(rules: Option<&rbac::Rbac>, matcher: Option<&PbMatcher>) -> BuildResult<Option<Engine>> {
        Engine::for_kind(rules, matcher, tree::Rbac::default())
    }
    /// The same for connections, whose filter is another.
    ///
    /// # Errors
    /// A rule or an input that is not to be had here.
    pub fn of_connections(
        rules: Option<&rbac::Rbac>,
        matcher: Option<&PbMatcher>,
    ) -> BuildResult<Option<Engine>> {
        Engine::for_kind(rules, matcher, tree::Rbac::of_connections())
    }
    fn for_kind(
        rules: Option<&rbac::Rbac>,
        matcher: Option<&PbMatcher>,
        kind: tree::Rbac,
    ) -> BuildResult<Option<Engine>> {
        if let Some(m) = matcher {
            let tree = Tree::new(m, &kind)?;
            return Ok(Some(Engine::Tree(tree, kind.has_log.get())));
        }
        let Some(r) = rules else { return Ok(None) };
        let policies = r.policies.iter().map(|(name, p)| {
            Ok(Policy {
                name: name.clone(),
                permissions: Matcher::permissions(&p.permissions)?,
                principals: Matcher::principals(&p.principals)?,
                condition: condition(p)?,
            })
        });
        Ok(Some(Engine::Policies(r.action(), policies.collect::<BuildResult<_>>()?)))
    }
    /// Whether the request is allowed, and by which policy or action.
    pub fn decide(&self, ex: &Exchange) -> Verdict<'_> {
        match self {
            Engine::Policies(action, policies) => {
                let policy = policies.iter().find(|p| p.matches(ex)).map(|p| &*p.name);
                let (allowed, hint) = match action {
                    Action::Allow => (policy.is_some(), None),
                    Action::Deny => (policy.is_none(), None),
                    Action::Log => (true, Some(policy.is_some())),
                };
                Verdict { allowed, policy, hint }
            }
            // What leads to no action is refused, also when nothing could be decided.
            Engine::Tree(tree, has_log) => match tree.find(ex) {
                Ok(Some(a)) => Verdict {
                    allowed: a.action != Action::Deny,
                    policy: Some(&a.name),
                    hint: has_log.then_some(a.action == Action::Log),
                },
                Ok(None) | Err(_) => Verdict { allowed: false, policy: None, hint: None },
            },
        }
    }
}

impl Config {
    fn new(c: &pb::Rbac) -> BuildResult<Config> {
        Ok(Config {
            rules: Engine::new(c.rules.as_ref(), c.matcher.as_ref())?,
            shadow: Engine::new(c.shadow_rules.as_ref(), c.shadow_matcher.as_ref())?,
            rules_prefix: c.rules_stat_prefix.clone(),
            shadow_prefix: c.shadow_rules_stat_prefix.clone(),
            per_rule: c.track_per_rule_stats,
        })
    }
}

/// A string as metadata holds it.
pub(crate) fn text(s: &str) -> Value {
    Value { kind: Some(Kind::StringValue(s.to_owned())) }
}

/// `envoy.common: access_log_hint`, for loggers that ask for it.
fn hint(sx: &StreamShared, log: bool) {
    sx.info.set_metadata("envoy.common", hint_struct(log));
}

/// What [`hint`] sets.
pub(crate) fn hint_struct(log: bool) -> Struct {
    let value = Value { kind: Some(Kind::BoolValue(log)) };
    Struct { fields: [("access_log_hint".to_owned(), value)].into() }
}

/// The details of a refusal; blanks would look like the next field of a log.
pub(crate) fn details(policy: Option<&str>) -> String {
    let policy = policy.unwrap_or("none").replace(|c: char| c.is_ascii_whitespace() || c == '\x0b', "_");
    format!("rbac_access_denied_matched_policy[{policy}]")
}

/// A prefix that a route sets, or else the filter's.
fn prefix<'a>(of_route: Option<&'a str>, own: &'a str) -> &'a str {
    of_route.filter(|p| !p.is_empty()).unwrap_or(own)
}

impl Rbac {
    /// Decides, counts, and notes the result in `result`.
    fn shadow(&self, config: &Config, engine: &Engine, ex: &Exchange, result: &mut Struct) {
        let Verdict { allowed, policy, .. } = engine.decide(ex);
        let stats = &self.shadow_stats;
        let (counter, name) = match allowed {
            true => (stats.shadow_allowed(), "shadow_allowed"),
            false => (stats.shadow_denied(), "shadow_denied"),
        };
        counter.inc();
        let prefix = prefix(Some(&config.shadow_prefix), &self.config.shadow_prefix);
        if let Some(policy) = policy {
            if config.per_rule {
                stats.policy().get(&format!("{policy}.{name}")).inc();
            }
            result.fields.insert(format!("{prefix}shadow_effective_policy_id"), text(policy));
        }
        let said = if allowed { "allowed" } else { "denied" };
        result.fields.insert(format!("{prefix}shadow_engine_result"), text(said));
    }
    /// As [`shadow`](Self::shadow); says with which details the request is refused, if it is.
    fn enforce(
        &self,
        config: &Config,
        engine: &Engine,
        ex: &Exchange,
        result: &mut Struct,
    ) -> Option<String> {
        let Verdict { allowed, policy, hint: log } = engine.decide(ex);
        if let Some(log) = log {
            hint(&ex.sx, log);
        }
        let (counter, name) = match allowed {
            true => (self.stats.allowed(), "allowed"),
            false => (self.stats.denied(), "denied"),
        };
        counter.inc();
        let prefix = prefix(Some(&config.rules_prefix), &self.config.rules_prefix);
        if let Some(policy) = policy {
            if config.per_rule {
                self.stats.policy().get(&format!("{policy}.{name}")).inc();
            }
            result.fields.insert(format!("{prefix}enforced_effective_policy_id"), text(policy));
        }
        result.fields.insert(format!("{prefix}enforced_engine_result"), text(name));
        (!allowed).then(|| details(policy))
    }
}

impl HttpFilter for Rbac {
    type Config = pb::Rbac;
    type RouteConfig = pb::RbacPerRoute;
    type Route = Config;
    type Stream = ();

    fn new(config: pb::Rbac, cx: &BuildCx<'_>) -> BuildResult<Rbac> {
        let scope = cx.scope.scope("rbac");
        Ok(Rbac {
            config: Arc::new(Config::new(&config)?),
            stats: RbacStats::new(&scope.scope(&config.rules_stat_prefix)),
            shadow_stats: ShadowStats::new(&scope.scope(&config.shadow_rules_stat_prefix)),
        })
    }
    fn route(config: pb::RbacPerRoute, _: &BuildCx<'_>) -> BuildResult<Config> {
        // Without rules everybody may pass.
        Config::new(&config.rbac.unwrap_or_default())
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        let config = ex.route_config::<Config>();
        let config = config.as_ref().unwrap_or(&self.config);
        if config.rules.is_none() && config.shadow.is_none() {
            return Step::Next;
        }
        let mut result = Struct::default();
        if let Some(engine) = &config.shadow {
            self.shadow(config, engine, ex, &mut result);
        }
        let refused = config.rules.as_ref().and_then(|engine| self.enforce(config, engine, ex, &mut result));
        ex.sx.info.set_metadata(NAME, result);
        match refused {
            None => Step::Next,
            Some(details) => Step::reply(403, "RBAC: access denied", details),
        }
    }
}

#[cfg(test)]
mod tests;
