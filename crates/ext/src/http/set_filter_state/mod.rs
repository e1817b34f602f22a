use crate::config::request_cx;
use nuncio_api::envoy::extensions::filters::common::set_filter_state::v3 as common;
use nuncio_api::envoy::extensions::filters::http::set_filter_state::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::{BuildCx, HttpFilter, Step};
use nuncio_core::filter_state::{
    HashableString, LifeSpan, NumberObject, StateObject, StringObject, TCP_PROXY_CLUSTER,
    TCP_PROXY_IDLE_TIMEOUT,
};
use nuncio_core::format::{FormatCx, Formatter, Purpose};
use nuncio_core::registry::Docs;
use nuncio_core::{BuildError, BuildResult, Exchange, Registry};
use std::rc::Rc;
use std::sync::Arc;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.http.set_filter_state";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        &["on_request_headers", "clear_route_cache"],
    ),
    Covered::new(
        "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue",
        &["object_key", "factory_key", "format_string", "read_only", "skip_if_empty"],
    ),
];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.http_filter::<SetFilterState>(NAME, docs);
}

/// What Envoy has objects for besides plain strings. None of them would have an effect here.
const KNOWN: &[&str] = &[
    "envoy.network.application_protocols",
    "envoy.network.upstream_server_name",
    "envoy.network.upstream_subject_alt_names",
    "envoy.network.ip",
    "envoy.router.debug_config",
    "envoy.tcp_proxy.disable_tunneling",
    "envoy.upstream.dynamic_host",
    "envoy.upstream.dynamic_port",
    "envoy.network.transport_socket.original_dst_address",
    "envoy.filters.listener.original_dst.local_ip",
    "envoy.filters.listener.original_dst.remote_ip",
    "envoy.hash_policy",
];

/// The filter, or the values of a level of the route configuration.
pub struct SetFilterState {
    values: Vec<Value>,
    clear_route_cache: bool,
}

/// What is made of a text.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// A balancer may choose by it.
    Hashable,
    /// None, unless it is a number.
    Number,
}

/// One object to set.
pub(crate) struct Value {
    /// `object_key`
    pub key: Arc<str>,
    format: Formatter,
    /// `read_only`
    pub read_only: bool,
    skip_if_empty: bool,
    kind: Kind,
}

impl Value {
    /// The object for what `cx` shows; none if it would be empty and is to be skipped then.
    pub fn object(&self, cx: &FormatCx<'_>) -> Option<Rc<dyn StateObject>> {
        let mut text = vec![];
        self.format.append(cx, &mut text);
        if text.is_empty() && self.skip_if_empty {
            return None;
        }
        let text = String::from_utf8_lossy(&text);
        Some(match self.kind {
            Kind::Hashable => Rc::new(HashableString(text.into())),
            Kind::Text => Rc::new(StringObject(text.into())),
            Kind::Number => Rc::new(NumberObject(text.trim().parse().ok()?)),
        })
    }
    /// From configuration.
    ///
    /// # Errors
    /// There is no such object, or the format is refused.
    pub fn new(v: &common::FilterStateValue) -> BuildResult<Value> {
        let Some(common::filter_state_value::Key::ObjectKey(key)) = &v.key else {
            return Err("field: \"key\", reason: is required".into());
        };
        let factory = if v.factory_key.is_empty() { key } else { &v.factory_key };
        let kind = match &**factory {
            "envoy.string" | TCP_PROXY_CLUSTER => Kind::Text,
            "envoy.hashable_string" => Kind::Hashable,
            "envoy.ratelimit.hits_addend" | TCP_PROXY_IDLE_TIMEOUT => Kind::Number,
            known if KNOWN.contains(&known) => {
                return Err(BuildError::not_implemented(format_args!("filter state object {known}")));
            }
            _ => return Err(BuildError(format!("'{key}' does not have an object factory"))),
        };
        let Some(common::filter_state_value::Value::FormatString(format)) = &v.value else {
            return Err("field: \"value\", reason: is required".into());
        };
        Ok(Value {
            key: key.as_str().into(),
            format: Formatter::new(format, Purpose::Body)?,
            read_only: v.read_only,
            skip_if_empty: v.skip_if_empty,
            kind,
        })
    }
}

impl SetFilterState {
    fn from_config(config: &pb::Config) -> BuildResult<SetFilterState> {
        let values = config.on_request_headers.iter().map(Value::new).collect::<BuildResult<_>>()?;
        Ok(SetFilterState { values, clear_route_cache: config.clear_route_cache })
    }
    fn apply(&self, ex: &Exchange) {
        let route = ex.sx.current_route();
        for v in &self.values {
            let cx = request_cx(&ex.request.headers, &ex.sx, route.as_deref());
            let Some(object) = v.object(&cx) else { continue };
            let mut state = ex.sx.info.filter_state.borrow_mut();
            state.set_guarded(&v.key, LifeSpan::FilterChain, v.read_only, object);
        }
    }
}

impl HttpFilter for SetFilterState {
    type Config = pb::Config;
    type RouteConfig = pb::Config;
    type Route = SetFilterState;
    type Stream = ();

    fn new(config: pb::Config, _: &BuildCx<'_>) -> BuildResult<SetFilterState> {
        SetFilterState::from_config(&config)
    }
    fn route(config: pb::Config, _: &BuildCx<'_>) -> BuildResult<SetFilterState> {
        SetFilterState::from_config(&config)
    }

    fn on_request<'a>(self: &'a Arc<Self>, (): &'a mut (), ex: &'a mut Exchange) -> Step<'a> {
        // The filter's own values first, then from the least to the most specific level.
        let levels = ex.route_configs::<SetFilterState>();
        self.apply(ex);
        levels.iter().rev().for_each(|l| l.apply(ex));
        if self.clear_route_cache || levels.iter().any(|l| l.clear_route_cache) {
            ex.clear_route_cache();
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests;
