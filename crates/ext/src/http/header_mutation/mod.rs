use nuncio_api::envoy::extensions::filters::http::header_mutation::v3 as pb;
use nuncio_core::body::Body;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildResult, Exchange, Registry};
use nuncio_wire::{joined, name};
use smallvec::SmallVec;
use std::sync::Arc;

pub(crate) mod headers;
pub(crate) mod query;
pub(crate) mod target;
mod trailers;

use headers::HeaderMutations;
use query::QueryMutations;
use target::Target;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.header_mutation";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        &["mutations", "most_specific_header_mutations_wins"],
    ),
    Covered::new("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute", &["mutations"]),
    Covered::new(
        "envoy.extensions.filters.http.header_mutation.v3.Mutations",
        &[
            "request_mutations",
            "query_parameter_mutations",
            "response_mutations",
            "response_trailers_mutations",
            "request_trailers_mutations",
        ],
    ),
    Covered::new(
        "envoy.config.common.mutation_rules.v3.HeaderMutation",
        &["remove", "append", "remove_on_match"],
    ),
    Covered::new("envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch", &["key_matcher"]),
    Covered::new("envoy.config.core.v3.KeyValueMutation", &["append", "remove"]),
    Covered::new("envoy.config.core.v3.KeyValueAppend", &["record", "action"]),
    Covered::new("envoy.config.core.v3.KeyValuePair", &["key", "value"]),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<HeaderMutation>(NAME, docs);
    r.upstream_http_filter::<HeaderMutation>(NAME, docs);
}

/// The filter.
pub struct HeaderMutation {
    mutations: Mutations,
    most_specific_wins: bool,
}

/// The mutations of the filter, or of one level of the route configuration.
#[derive(Default)]
pub struct Mutations {
    request: HeaderMutations,
    query: QueryMutations,
    response: HeaderMutations,
    request_trailers: HeaderMutations,
    response_trailers: HeaderMutations,
}

impl Mutations {
    fn new(m: Option<&pb::Mutations>) -> BuildResult<Mutations> {
        let Some(m) = m else { return Ok(Mutations::default()) };
        Ok(Mutations {
            request: HeaderMutations::new(&m.request_mutations)?,
            response: HeaderMutations::new(&m.response_mutations)?,
            response_trailers: HeaderMutations::new(&m.response_trailers_mutations)?,
            request_trailers: HeaderMutations::new(&m.request_trailers_mutations)?,
            query: QueryMutations::new(&m.query_parameter_mutations)?,
        })
    }
}

/// The mutations of the route levels in the order in which they run, found once per stream: another filter may have the
/// route chosen again, but request and response are changed by the same rules.
pub type Levels = Option<SmallVec<[Arc<Mutations>; 4]>>;

impl HeaderMutation {
    fn levels<'a>(&self, st: &'a mut Levels, ex: &Exchange) -> &'a SmallVec<[Arc<Mutations>; 4]> {
        st.get_or_insert_with(|| {
            let mut levels = ex.route_configs::<Mutations>();
            if self.most_specific_wins {
                levels.reverse();
            }
            levels
        })
    }
}

impl HttpFilter for HeaderMutation {
    type Config = pb::HeaderMutation;
    type RouteConfig = pb::HeaderMutationPerRoute;
    type Route = Mutations;
    type Stream = Levels;

    fn new(config: pb::HeaderMutation, _: &BuildCx<'_>) -> BuildResult<HeaderMutation> {
        Ok(HeaderMutation {
            mutations: Mutations::new(config.mutations.as_deref())?,
            most_specific_wins: config.most_specific_header_mutations_wins,
        })
    }
    fn route(config: pb::HeaderMutationPerRoute, _: &BuildCx<'_>) -> BuildResult<Mutations> {
        Mutations::new(config.mutations.as_deref())
    }

    fn on_request<'a>(self: &'a Arc<Self>, st: &'a mut Levels, ex: &'a mut Exchange) -> Step<'a> {
        // Before anything is changed: the request as it came chooses the route.
        let route = ex.route();
        let levels = self.levels(st, ex);
        let sx = ex.sx.clone();
        let mut target =
            Target::Request { headers: &mut ex.request.headers, sx: &sx, route: route.as_deref() };
        let mut path_ok = true;
        for m in std::iter::once(&self.mutations).chain(levels.iter().map(|l| &**l)) {
            m.request.apply(&mut target, joined::in_requests);
            path_ok &= m.query.apply(&mut target);
        }
        if !path_ok {
            // What Envoy's codec says when it is asked to send such a path.
            let details = "filter_removed_required_request_headers{invalid_header_value_for:_:path}";
            return Step::reply(503, "invalid header value for: :path", details);
        }
        let wanted = |m: &Mutations| !m.request_trailers.is_empty();
        if (wanted(&self.mutations) || levels.iter().any(|l| wanted(l)))
            && may_have_trailers(&ex.request_body)
        {
            let rules =
                trailers::Rules { filter: self.clone(), levels: levels.clone(), of: |m| &m.request_trailers };
            ex.request_body = rules.wrap(ex.request_body.take(), &ex.request.headers, None);
        }
        Step::Next
    }

    fn on_response<'a>(self: &'a Arc<Self>, st: &'a mut Levels, ex: &'a mut Exchange) -> Step<'a> {
        let levels = self.levels(st, ex);
        let Some(response) = &mut ex.response else { return Step::Next };
        let route = ex.sx.current_route();
        let mut target = Target::Response {
            request: &ex.request.headers,
            status: response.status,
            headers: &mut response.headers,
            sx: &ex.sx,
            route: route.as_deref(),
        };
        for m in std::iter::once(&self.mutations).chain(levels.iter().map(|l| &**l)) {
            // Envoy keeps one `content-length` too.
            m.response.apply(&mut target, |id| joined::in_responses(id) || id == name::CONTENT_LENGTH);
        }
        let wanted = |m: &Mutations| !m.response_trailers.is_empty();
        if (wanted(&self.mutations) || levels.iter().any(|l| wanted(l)))
            && may_have_trailers(&ex.response_body)
        {
            let rules = trailers::Rules {
                filter: self.clone(),
                levels: levels.clone(),
                of: |m| &m.response_trailers,
            };
            let head = Some((response.status, &response.headers));
            ex.response_body = rules.wrap(ex.response_body.take(), &ex.request.headers, head);
        }
        Step::Next
    }
}

/// A body that is wholly at hand has no trailers.
fn may_have_trailers(b: &Body) -> bool {
    b.known_len().is_none() && !b.is_end()
}

#[cfg(test)]
mod tests;
