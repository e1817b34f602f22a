//! Calls that the proxy makes on its own account, through ordinary clusters: the router serves them, as it serves the
//! requests of clients, with a route that leads to one cluster. Their router stats are `http.async-client.`

use super::local::Clusters;
use crate::route::{RouteTable, TableSource};
use crate::router::Router;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::route::v3 as pb;
use nuncio_core::address::{Address, local_ip};
use nuncio_core::body::{Body, BodyError, BodySource, Frame};
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildResult, ResetReason};
use nuncio_core::exchange::Exchange;
use nuncio_core::filter::{BuildCx, Step};
use nuncio_core::info::{ConnInfo, Interrupt, ListenerInfo, StreamShared};
use nuncio_core::stats::Scope;
use nuncio_core::upstreams::{
    Answer, Call, CallError, CallOptions, ChargeCluster, ClientOptions, HttpClient,
};
use nuncio_core::worker;
use nuncio_wire::{RequestHead, Version, name};
use prost_types::Duration;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

/// What is read of the retry policy that clients have.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.RetryPolicy",
        &[
            "retry_back_off",
            "num_retries",
            "retry_on",
            "retry_priority",
            "retry_host_predicate",
            "host_selection_retry_max_attempts",
        ],
    ),
    Covered::new("envoy.config.core.v3.RetryPolicy.RetryPriority", &["name", "typed_config"]),
    Covered::new("envoy.config.core.v3.RetryPolicy.RetryHostPredicate", &["name", "typed_config"]),
    Covered::new("envoy.config.core.v3.BackoffStrategy", &["base_interval", "max_interval"]),
];

/// A client of one cluster.
pub struct Client(Arc<Inner>);

struct Inner {
    cluster: String,
    envoy_headers: bool,
    forwarded_for: bool,
    router: Router,
    routes: Arc<RouteTable>,
}

impl Client {
    /// Builds a client; `scope` is `http.async-client.`
    ///
    /// # Errors
    /// The retry policy is refused.
    pub fn new(o: &ClientOptions<'_>, scope: &Scope, cx: &BuildCx<'_>) -> BuildResult<Client> {
        let settings = nuncio_api::envoy::extensions::filters::http::router::v3::Router::default();
        Ok(Client(Arc::new(Inner {
            cluster: o.cluster.to_owned(),
            envoy_headers: o.envoy_headers,
            forwarded_for: o.envoy_headers && o.forwarded_for,
            router: Router::new(&settings, &BuildCx { scope, ..*cx })?,
            routes: Arc::new(RouteTable::new(&routes(o)?, cx)?),
        })))
    }
}

/// One route to the cluster, for everything, without a timeout: each call brings its own.
fn routes(o: &ClientOptions<'_>) -> BuildResult<pb::RouteConfiguration> {
    let action = pb::RouteAction {
        cluster_specifier: Some(pb::route_action::ClusterSpecifier::Cluster(o.cluster.to_owned())),
        timeout: Some(Duration::default()),
        retry_policy: o.retry_policy.map(retry_policy).transpose()?.map(Into::into),
        ..Default::default()
    };
    let everything = pb::route_match::PathSpecifier::Prefix(String::new());
    let route = pb::Route {
        r#match: Some(pb::RouteMatch { path_specifier: Some(everything), ..Default::default() }.into()),
        action: Some(pb::route::Action::Route(action.into())),
        ..Default::default()
    };
    let host = pb::VirtualHost {
        name: "async-client".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..Default::default()
    };
    Ok(pb::RouteConfiguration {
        virtual_hosts: vec![host],
        validate_clusters: Some(false),
        ..Default::default()
    })
}

/// The policy of a client as that of a route; its back-off begins with a second unless it says otherwise.
fn retry_policy(p: &core::RetryPolicy) -> BuildResult<pb::RetryPolicy> {
    use core::retry_policy::retry_host_predicate::ConfigType as From;
    use core::retry_policy::retry_priority::ConfigType as FromP;
    use pb::retry_policy::retry_host_predicate::ConfigType as To;
    use pb::retry_policy::retry_priority::ConfigType as ToP;
    let second = || Duration { seconds: 1, nanos: 0 };
    let back_off = p.retry_back_off;
    let back_off = back_off.unwrap_or(core::BackoffStrategy {
        base_interval: Some(second()),
        max_interval: Some(Duration { seconds: 10, nanos: 0 }),
    });
    let predicate = |h: &core::retry_policy::RetryHostPredicate| pb::retry_policy::RetryHostPredicate {
        name: h.name.clone(),
        config_type: h.config_type.clone().map(|From::TypedConfig(any)| To::TypedConfig(any)),
    };
    let priority = p.retry_priority.as_ref().map(|r| pb::retry_policy::RetryPriority {
        name: r.name.clone(),
        config_type: r.config_type.clone().map(|FromP::TypedConfig(any)| ToP::TypedConfig(any)),
    });
    Ok(pb::RetryPolicy {
        retry_priority: priority,
        retry_on: p.retry_on.clone(),
        num_retries: p.num_retries,
        retry_host_predicate: p.retry_host_predicate.iter().map(predicate).collect(),
        host_selection_retry_max_attempts: p.host_selection_retry_max_attempts,
        retry_back_off: Some(pb::retry_policy::RetryBackOff {
            base_interval: back_off.base_interval,
            max_interval: back_off.max_interval,
        }),
        ..Default::default()
    })
}

impl HttpClient for Client {
    fn cluster(&self) -> &str {
        &self.0.cluster
    }
    fn call(&self, head: RequestHead, body: Body, options: CallOptions) -> Call {
        Box::pin(call(self.0.clone(), head, body, options))
    }
}

/// Counts responses in the stats of this thread's clusters.
pub struct Charges;

impl ChargeCluster for Charges {
    fn exists(&self, cluster: &str) -> bool {
        Clusters::here().get(cluster).is_some()
    }
    fn charge_internal(&self, cluster: &str, status: u16) {
        if let Some(c) = Clusters::here().get(cluster) {
            c.plan.stats.rq().record(status);
            c.plan.stats.internal().record(status);
        }
    }
}

async fn call(
    me: Arc<Inner>,
    mut head: RequestHead,
    body: Body,
    options: CallOptions,
) -> Result<Answer, CallError> {
    if Clusters::here().get(&me.cluster).is_none() {
        return Err(CallError::NoCluster);
    }
    if me.envoy_headers {
        head.headers.set(name::X_ENVOY_INTERNAL, b"true");
    }
    if me.forwarded_for {
        head.headers.append_to(name::X_FORWARDED_FOR, b",", own_address().as_bytes());
    }
    if let Some(t) = options.timeout {
        // The router takes it off again.
        let ms = t.as_millis().max(1).to_string();
        head.headers.set(name::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, ms.as_bytes());
    }
    let source = Rc::new(TableSource::new(me.routes.clone()));
    let sx = StreamShared::new(own_connection(), Some(source));
    sx.info.protocol.set(Some(Version::Http11));
    let beside = Beside(sx.clone());
    let mut ex = Exchange::new(head, body, sx.clone());
    let served = {
        let mut serving = pin!(me.router.serve(&mut ex));
        poll_fn(|cx| {
            if let Some(i) = sx.poll_beside(cx) {
                return Poll::Ready(Err(i));
            }
            match serving.as_mut().poll(cx) {
                Poll::Ready(step) => Poll::Ready(Ok(step)),
                // It may have added what runs beside it.
                Poll::Pending => sx.poll_beside(cx).map_or(Poll::Pending, |i| Poll::Ready(Err(i))),
            }
        })
        .await
    };
    match served {
        Ok(Step::Reply(r)) | Err(Interrupt::Reply(r)) => {
            sx.drop_sides();
            sx.clear_deadline();
            ex.reply(*r);
        }
        Ok(_) => {}
        Err(Interrupt::Reset(r)) => return Err(CallError::Reset(r)),
    }
    let Some(head) = ex.response.take() else { return Err(CallError::Reset(ResetReason::LocalReset)) };
    let body = match ex.response_body.take() {
        body if body.is_end() => Body::Empty,
        body => Body::source(Driven { body, beside }),
    };
    Ok(Answer { head, body, sx })
}

/// What runs beside a call: the rest of the request, the timeout. They hold the stream that holds them, so that they have to be
/// ended, however the call ends.
struct Beside(Rc<StreamShared>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.drop_sides();
    }
}

/// A response's body, and what runs beside it.
struct Driven {
    body: Body,
    beside: Beside,
}

impl BodySource for Driven {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        _: &StreamShared,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.beside.0.poll_beside(cx) {
            None => self.body.poll_frame(cx, &self.beside.0),
            Some(Interrupt::Reset(r)) => Poll::Ready(Some(Err(BodyError::Reset(r)))),
            // The head is there: nothing can be said any more.
            Some(Interrupt::Reply(_)) => Poll::Ready(Some(Err(BodyError::Reset(ResetReason::LocalReset)))),
        }
    }
    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

/// Facts of the connection that our own calls come from: there is none.
fn own_connection() -> Rc<ConnInfo> {
    let make = || {
        let nowhere = Address::Internal("self".into(), "".into());
        ConnInfo::new(0, Arc::new(ListenerInfo::default()), nowhere.clone(), nowhere)
    };
    worker::local::<Own>(|| Own(Rc::new(make()))).0.clone()
}
struct Own(Rc<ConnInfo>);

/// The address of this machine towards others, for `x-forwarded-for`: that of the way to a public address, over which nothing is sent.
fn own_address() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| local_ip().to_string())
}
