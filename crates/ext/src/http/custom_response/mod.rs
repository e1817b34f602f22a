use crate::config::root;
use local::LocalResponse;
use nuncio_api::envoy::extensions::filters::http::custom_response::v3 as pb;
use nuncio_api::envoy::extensions::http::custom_response as pb_policy;
use nuncio_api::xds::core::v3::TypedExtensionConfig;
use nuncio_core::cel::Program;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::filter_state::StateObject;
use nuncio_core::match_input::{self, Input, Source};
use nuncio_core::match_tree::{Kind, Tree, Value};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildError, BuildResult, Exchange, Registry, stats};
use pb_policy::local_response_policy::v3::LocalResponsePolicy;
use pb_policy::redirect_policy::v3::RedirectPolicy;
use prost::{Message, Name};
use redirect::Redirect;
use std::sync::Arc;

mod local;
mod redirect;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.custom_response";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.custom_response.v3.CustomResponse",
        &["custom_response_matcher"],
    ),
    Covered::new(
        "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
        &[
            "body",
            "body_format",
            "status_code",
            "response_headers_to_add",
            "preserve_response_code_details",
            "response_code_details",
        ],
    ),
    Covered::new(
        "envoy.extensions.http.custom_response.redirect_policy.v3.RedirectPolicy",
        &[
            "uri",
            "redirect_action",
            "status_code",
            "response_headers_to_add",
            "request_headers_to_add",
            "modify_request_headers_action",
        ],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<CustomResponse>(NAME, docs);
}

stats! {
    /// Of redirect policies, below no prefix.
    pub struct RedirectStats {
        custom_response_redirect_no_route: Counter,
        custom_response_invalid_uri: Counter,
    }
}

/// The filter.
pub struct CustomResponse(Policies);

/// Which response is replaced by what: of the filter, or of a route.
pub struct Policies(Option<Tree<Matching>>);

/// What replaces a response.
enum Policy {
    Local(Box<LocalResponse>),
    Redirect(Arc<Redirect>),
}

/// Trees that look at responses.
struct Matching {
    stats: RedirectStats,
}

/// In the filter state of a request that began again: how its response is to look.
struct Redirected {
    policy: Arc<Redirect>,
    status: u16,
}
impl StateObject for Redirected {}

/// Its name there.
const REDIRECTED: &str = "envoy.filters.http.custom_response";

impl Policies {
    fn new(c: &pb::CustomResponse, cx: &BuildCx<'_>) -> BuildResult<Policies> {
        let matching = Matching { stats: RedirectStats::new(&root(cx.scope)) };
        Ok(Policies(c.custom_response_matcher.as_ref().map(|m| Tree::new(m, &matching)).transpose()?))
    }
    fn find(&self, ex: &Exchange) -> Option<&Policy> {
        let from = Source { request: &ex.request, response: ex.response.as_ref(), sx: &ex.sx };
        self.0.as_ref()?.find(&from).ok()?
    }
}

impl Kind for Matching {
    type Input = Input;
    type Action = Policy;
    type Data<'d> = Source<'d>;

    fn input(&self, c: &TypedExtensionConfig) -> BuildResult<Input> {
        Input::new(c)?.ok_or_else(|| unregistered(c))
    }
    fn action(&self, c: &TypedExtensionConfig) -> BuildResult<Policy> {
        let any = c.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        if ty == LocalResponsePolicy::full_name() {
            return Ok(Policy::Local(Box::new(LocalResponse::new(&decode(any)?)?)));
        }
        if ty == RedirectPolicy::full_name() {
            return Ok(Policy::Redirect(Arc::new(Redirect::new(&decode(any)?, self.stats.clone())?)));
        }
        Err(unregistered(c))
    }
    fn value<'a>(input: &Input, from: &'a Source<'_>) -> Value<'a> {
        match input {
            // As in Envoy trees see the response alone.
            Input::Header(_) | Input::QueryParameter(_) => Value::NotAvailable,
            other => other.value(from),
        }
    }
    fn is_attributes(input: &Input) -> bool {
        matches!(input, Input::Attributes)
    }
    fn holds(program: &Program, from: &Source<'_>) -> bool {
        match_input::holds(program, from)
    }
}

fn unregistered(c: &TypedExtensionConfig) -> BuildError {
    let url = c.typed_config.as_ref().map_or("", |a| &a.type_url);
    BuildError(nuncio_api::extensions::unregistered(&c.name, url.rsplit('/').next().unwrap_or_default()))
}

fn decode<M: Message + Default>(any: &prost_types::Any) -> BuildResult<M> {
    M::decode(&*any.value).map_err(|e| BuildError(e.to_string()))
}

impl HttpFilter for CustomResponse {
    type Config = pb::CustomResponse;
    type RouteConfig = pb::CustomResponse;
    type Route = Policies;
    /// It has seen the request.
    type Stream = bool;

    fn new(config: pb::CustomResponse, cx: &BuildCx<'_>) -> BuildResult<CustomResponse> {
        Ok(CustomResponse(Policies::new(&config, cx)?))
    }
    fn route(config: pb::CustomResponse, cx: &BuildCx<'_>) -> BuildResult<Policies> {
        Policies::new(&config, cx)
    }

    fn on_request<'a>(self: &'a Arc<Self>, seen: &'a mut bool, _: &'a mut Exchange) -> Step<'a> {
        *seen = true;
        Step::Next
    }
    fn on_response<'a>(self: &'a Arc<Self>, seen: &'a mut bool, ex: &'a mut Exchange) -> Step<'a> {
        let redirected = ex.sx.info.filter_state.borrow().get_as::<Redirected>(REDIRECTED);
        if let Some(r) = redirected {
            r.policy.finish(r.status, ex);
            return Step::Next;
        }
        let levels = match ex.sx.current_route() {
            // A response without a route does not choose one.
            None => Default::default(),
            Some(_) => ex.route_configs::<Policies>(),
        };
        let mut all = levels.iter().map(|l| &**l).chain([&self.0]);
        match all.find_map(|p| p.find(ex)) {
            None => Step::Next,
            Some(Policy::Local(l)) => Step::Reply(Box::new(l.reply(ex))),
            Some(Policy::Redirect(r)) => match *seen && ex.is_complete() && r.begin(ex) {
                true => Step::Restart,
                false => Step::Next,
            },
        }
    }
}

#[cfg(test)]
mod tests;
