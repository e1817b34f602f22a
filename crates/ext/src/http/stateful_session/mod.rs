use nuncio_api::envoy::extensions::filters::http::stateful_session::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::info::OverrideHost;
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Flag, Registry, stats};
use pb::stateful_session_per_route::Override;
use std::rc::Rc;
use std::sync::Arc;

mod state;

use state::SessionState;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.stateful_session";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
        &["session_state", "strict", "stat_prefix", "status_on_strict_destination_not_found"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
        &["disabled", "stateful_session"],
    ),
    Covered::new("envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState", &["cookie"]),
    Covered::new("envoy.type.http.v3.Cookie", &["name", "ttl", "path", "attributes"]),
    Covered::new("envoy.type.http.v3.CookieAttribute", &["name", "value"]),
    Covered::new("envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState", &["name"]),
    Covered::new("envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState", &["header"]),
    Covered::new("envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState.Header", &["name"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<StatefulSession>(NAME, docs);
}

stats! {
    /// Below `http.<stat_prefix>.stateful_session.<stat_prefix>.`
    pub struct SessionStats {
        routed: Counter,
        failed_open: Counter,
        failed_closed: Counter,
        no_session: Counter,
    }
}

/// The filter.
pub struct StatefulSession(Arc<Sessions>);

/// How the filter, or a route, keeps sessions.
pub struct Sessions {
    state: Option<SessionState>,
    strict: bool,
    not_found: u16,
    stats: Option<SessionStats>,
}

/// Of a route; `None`: none are kept.
pub struct OfRoute(Option<Arc<Sessions>>);

/// What the filter knows of a stream.
#[derive(Default)]
pub enum Session {
    /// It is none of its business.
    #[default]
    Off,
    /// The request cannot have a session.
    None(Arc<Sessions>),
    /// It can, and asks for the host at this address, if for any.
    Kept(Arc<Sessions>, Option<String>),
}

impl Sessions {
    fn new(c: &pb::StatefulSession, stats: Option<SessionStats>) -> BuildResult<Sessions> {
        // As in Envoy any other number is a status, too; those that cannot be written stand for the default.
        let not_found = u16::try_from(c.status_on_strict_destination_not_found).ok();
        Ok(Sessions {
            state: c.session_state.as_ref().map(SessionState::new).transpose()?,
            strict: c.strict,
            not_found: not_found.filter(|s| (100..1000).contains(s)).unwrap_or(503),
            stats,
        })
    }
}

impl HttpFilter for StatefulSession {
    type Config = pb::StatefulSession;
    type RouteConfig = pb::StatefulSessionPerRoute;
    type Route = OfRoute;
    type Stream = Session;

    fn new(config: pb::StatefulSession, cx: &BuildCx<'_>) -> BuildResult<StatefulSession> {
        let prefix = &config.stat_prefix;
        let stats = (!prefix.is_empty())
            .then(|| SessionStats::new(&cx.scope.scope("stateful_session").scope(prefix)));
        Ok(StatefulSession(Arc::new(Sessions::new(&config, stats)?)))
    }
    fn route(config: pb::StatefulSessionPerRoute, _: &BuildCx<'_>) -> BuildResult<OfRoute> {
        Ok(OfRoute(match &config.r#override {
            Some(Override::StatefulSession(c)) => Some(Arc::new(Sessions::new(c, None)?)),
            Some(Override::Disabled(_)) | None => None,
        }))
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Session, ex: &'a mut Exchange) -> Step<'a> {
        let sessions = match ex.route_config::<OfRoute>().as_deref() {
            None => self.0.clone(),
            Some(OfRoute(Some(s))) => s.clone(),
            Some(OfRoute(None)) => return Step::Next,
        };
        let Some(state) = sessions.state.as_ref().filter(|s| s.takes(&ex.request)) else {
            *st = Session::None(sessions);
            return Step::Next;
        };
        let address = state.read(&mut ex.request.headers);
        if let Some(address) = &address {
            *ex.sx.info.override_host.borrow_mut() = Some(Rc::new(OverrideHost {
                address: address.as_str().into(),
                strict: sessions.strict,
                not_found: sessions.not_found,
            }));
        }
        *st = Session::Kept(sessions, address);
        Step::Next
    }
    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Session, ex: &'a mut Exchange) -> Step<'a> {
        let host = ex.sx.info.upstream.borrow().host.clone();
        match (&*st, host) {
            (Session::Off, _) | (Session::None(_), None) => {}
            (Session::None(sessions), Some(_)) => {
                if let Some(s) = &sessions.stats {
                    s.no_session().inc();
                }
            }
            (Session::Kept(sessions, _), None) => {
                if let Some(s) = &sessions.stats
                    && sessions.strict
                    && ex.sx.info.has_flag(Flag::NoHealthyUpstream)
                {
                    s.failed_closed().inc();
                }
            }
            (Session::Kept(sessions, asked), Some(host)) => {
                let (Some(state), Some(response)) = (&sessions.state, &mut ex.response) else {
                    return Step::Next;
                };
                let changed = state.write(asked.as_deref(), &host.address_text, &mut response.headers);
                match &sessions.stats {
                    Some(s) if !changed => s.routed().inc(),
                    Some(s) if !sessions.strict => s.failed_open().inc(),
                    _ => {}
                }
            }
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;
