//! Calling out: how what the proxy does on its own account (control planes, authorization, rate limits) reaches a
//! cluster without seeing the engine. gRPC stands on top of it ([`crate::grpc`]).

use crate::LocalBoxFuture;
use crate::address::Address;
use crate::body::Body;
use crate::error::ResetReason;
use crate::info::StreamShared;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_wire::{RequestHead, ResponseHead};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whom to call, and how; fixed with the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions<'a> {
    /// Name of the cluster. It may come and go: calls fail while it is not there.
    pub cluster: &'a str,
    /// When to call again.
    pub retry_policy: Option<&'a core::RetryPolicy>,
    /// Add `x-envoy-internal`, as Envoy does unless it is told not to.
    pub envoy_headers: bool,
    /// And `x-forwarded-for`.
    pub forwarded_for: bool,
}

impl<'a> ClientOptions<'a> {
    /// Calls to a cluster, once each.
    pub fn new(cluster: &'a str) -> ClientOptions<'a> {
        ClientOptions { cluster, retry_policy: None, envoy_headers: true, forwarded_for: true }
    }
}

/// How one call is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// How long the response may take once the request was sent, all retries included; `None` is no limit.
    pub timeout: Option<Duration>,
}

/// A client for one cluster: built on main from configuration ([`crate::filter::ServerCx::http_client`]), used on main and on
/// workers. Calls go through the cluster's load balancer, pools, TLS, circuit breakers and stats of the thread that makes them.
pub trait HttpClient: Send + Sync {
    /// Name of the cluster.
    fn cluster(&self) -> &str;
    /// Begins a call. It goes on while the future is polled, and afterwards while the answer's body is; dropping
    /// either ends it.
    fn call(&self, head: RequestHead, body: Body, options: CallOptions) -> Call;
}

/// Counts what the proxy itself answers in a cluster's place. Used on workers.
pub trait ChargeCluster: Send + Sync {
    /// There is such a cluster now.
    fn exists(&self, cluster: &str) -> bool;
    /// A response to a request from inside, with this status.
    fn charge_internal(&self, cluster: &str, status: u16);
}

/// Names that requests bring, resolved when somebody asks for the first time (`DnsCacheConfig`). One for all configurations
/// that name it; used on workers.
pub trait DnsCache: Send + Sync {
    /// The port of requests that name none, if this cluster sends them wherever they want to go
    /// (`envoy.clusters.dynamic_forward_proxy`): 443 with TLS, else 80.
    fn default_port(&self, cluster: &str) -> Option<u16>;
    /// What is known of `host` (as in an authority, perhaps with a port of its own).
    fn look_up(&self, host: &str, port: u16) -> Lookup;
}

/// What a cache knows of a name.
pub enum Lookup {
    /// It was resolved, or could not be: now, or by an earlier request.
    Known(Resolved),
    /// It is being resolved.
    Loading(LocalBoxFuture<'static, Resolved>),
    /// The cache holds as many names as it may (`max_hosts`).
    Full,
    /// As many requests wait as may (`dns_cache_circuit_breaker`).
    Busy,
}

/// Its first address, or what `%RESPONSE_CODE_DETAILS%` says of the failure.
pub type Resolved = Result<Address, Arc<str>>;

/// Finds clusters that nobody has configured (on-demand CDS). Used on workers.
pub trait FindCluster: Send + Sync {
    /// Whether this thread has the cluster.
    fn is_here(&self, name: &str) -> bool;
    /// Asks a control plane for a cluster.
    fn find(&self, name: &str, limit: Duration) -> LocalBoxFuture<'static, Found>;
}

/// What became of the search for a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// This thread has it.
    Here,
    /// There is none.
    Missing,
    /// Nobody knew in time.
    TimedOut,
}

/// A call under way.
pub type Call = LocalBoxFuture<'static, Result<Answer, CallError>>;

/// What a call came to: the cluster's response, or a reply of ours that stands for it (503, 504).
pub struct Answer {
    /// Its head.
    pub head: ResponseHead,
    /// Its body; polling it drives what is left of the request, too.
    pub body: Body,
    /// Facts of the call: details of the response, flags, bytes, the host.
    pub sx: Rc<StreamShared>,
}

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// There is no such cluster now.
    NoCluster,
    /// It was reset.
    Reset(ResetReason),
}
