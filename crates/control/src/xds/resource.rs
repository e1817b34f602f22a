//! Resources in the responses of a control plane: their names and kinds, and whether they are right.

use crate::remarks::Remarks;
use bytes::Bytes;
use nuncio_api::envoy::service::discovery::v3::Resource as Wrapped;
use nuncio_api::error::Severity;
use nuncio_api::schema;
use nuncio_api::validate::validate;
use nuncio_api::wire::{Wire, records};
use nuncio_core::coverage::Coverage;
use nuncio_core::discovery::Resource;
use nuncio_core::error::BuildError;
use prost::{Message, Name};
use std::sync::Arc;
use std::time::Duration;

/// `CDS`
pub const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
/// `EDS`
pub const ENDPOINTS: &str = "envoy.config.endpoint.v3.ClusterLoadAssignment";
/// `LDS`
pub const LISTENER: &str = "envoy.config.listener.v3.Listener";
/// `RDS`
pub const ROUTES: &str = "envoy.config.route.v3.RouteConfiguration";
/// `VHDS`
pub const VIRTUAL_HOST: &str = "envoy.config.route.v3.VirtualHost";
/// `SRDS`
pub const SCOPED_ROUTES: &str = "envoy.config.route.v3.ScopedRouteConfiguration";
/// `SDS`
pub const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
/// `RTDS`
pub const RUNTIME: &str = "envoy.service.runtime.v3.Runtime";
/// `ECDS`
pub const EXTENSION: &str = "envoy.config.core.v3.TypedExtensionConfig";

/// Services that bring one kind: full name, and what the names of their methods end with.
const SERVICES: [(&str, &str, &str); 9] = [
    (CLUSTER, "envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters"),
    (ENDPOINTS, "envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints"),
    (LISTENER, "envoy.service.listener.v3.ListenerDiscoveryService", "Listeners"),
    (ROUTES, "envoy.service.route.v3.RouteDiscoveryService", "Routes"),
    (VIRTUAL_HOST, "envoy.service.route.v3.VirtualHostDiscoveryService", "VirtualHosts"),
    (SCOPED_ROUTES, "envoy.service.route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes"),
    (SECRET, "envoy.service.secret.v3.SecretDiscoveryService", "Secrets"),
    (RUNTIME, "envoy.service.runtime.v3.RuntimeDiscoveryService", "Runtime"),
    (EXTENSION, "envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
];

/// The method that streams resources of a kind alone.
pub fn method(kind: &str, delta: bool) -> Option<String> {
    let (_, service, what) = SERVICES.iter().find(|(k, ..)| *k == kind)?;
    Some(format!("{service}/{}{what}", if delta { "Delta" } else { "Stream" }))
}

/// Where a kind is polled for (the `google.api.http` of its service's method).
pub fn rest_path(kind: &str) -> Option<&'static str> {
    Some(match kind {
        CLUSTER => "/v3/discovery:clusters",
        ENDPOINTS => "/v3/discovery:endpoints",
        LISTENER => "/v3/discovery:listeners",
        ROUTES => "/v3/discovery:routes",
        SCOPED_ROUTES => "/v3/discovery:scoped-routes",
        SECRET => "/v3/discovery:secrets",
        RUNTIME => "/v3/discovery:runtime",
        EXTENSION => "/v3/discovery:extension_configs",
        _ => return None,
    })
}

/// The type URL of a kind.
pub fn type_url(kind: &str) -> String {
    format!("type.googleapis.com/{kind}")
}

/// One element of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Arc<str>,
    /// None when only its time to live begins anew.
    pub resource: Option<Resource>,
    /// For how long it holds.
    pub ttl: Option<Duration>,
    /// What else it is called.
    pub aliases: Vec<String>,
}

/// Unwraps an element of a state-of-the-world response.
///
/// # Errors
/// It is of another type.
pub fn received(any: prost_types::Any, url: &str, version: &Arc<str>) -> Result<Received, String> {
    if any.type_url != url && message_of(&any.type_url) == Wrapped::full_name() {
        let wrapped = Wrapped::decode(&*any.value).map_err(|e| format!("Unable to parse protobuf: {e}"))?;
        return unwrapped(wrapped, url, Some(version));
    }
    let resource = resource(any, url, version.clone(), None)?;
    Ok(Received {
        name: resource.name.clone(),
        version: version.clone(),
        resource: Some(resource),
        ttl: None,
        aliases: vec![],
    })
}

/// Unwraps an element of a delta response, or, with the `version` of the response, one that is wrapped in another.
///
/// # Errors
/// It is of another type.
pub fn unwrapped(w: Wrapped, url: &str, version: Option<&Arc<str>>) -> Result<Received, String> {
    let own: Arc<str> = match (version, w.version.is_empty()) {
        (Some(v), _) => v.clone(),
        (None, _) => w.version.as_str().into(),
    };
    let ttl = w.ttl.and_then(|d| Duration::try_from(d).ok()).filter(|d| !d.is_zero());
    let resource = match w.resource {
        Some(any) => Some(resource(any, url, own.clone(), Some(w.name.clone()).filter(|n| !n.is_empty()))?),
        None => None,
    };
    let name = resource.as_ref().map_or(w.name, |r| r.name.clone());
    Ok(Received { name, version: own, resource, ttl, aliases: w.aliases })
}

fn resource(
    any: prost_types::Any,
    url: &str,
    version: Arc<str>,
    name: Option<String>,
) -> Result<Resource, String> {
    if message_of(&any.type_url) != message_of(url) {
        return Err(format!(
            "{} does not match the message-wide type URL {url} in DiscoveryResponse",
            any.type_url
        ));
    }
    let bytes = Bytes::from(any.value);
    let name = name.unwrap_or_else(|| name_in(&bytes));
    Ok(Resource { name, version, type_url: any.type_url, bytes })
}

fn message_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// The name of an encoded resource: of every kind it is the first field.
pub fn name_in(bytes: &[u8]) -> String {
    let mut name = String::new();
    for record in records(bytes) {
        match record {
            Ok((1, Wire::Bytes(b))) => name = String::from_utf8_lossy(b).into_owned(),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    name
}

/// How resources are checked.
pub struct Checker<'a> {
    /// What is read of them.
    pub coverage: &'a Coverage,
    /// `--reject-unknown-dynamic-fields`
    pub reject_unknown: bool,
    /// Mentions and counts the rest.
    pub remarks: &'a Remarks,
}

impl Checker<'_> {
    /// Checks a message against the rules of its fields, and that all that is set is read.
    ///
    /// # Errors
    /// The first thing that is wrong: Envoy's phrase, and where it is.
    pub fn check(&self, kind: &str, bytes: &[u8]) -> Result<(), String> {
        let Some(message) = schema::message(kind) else { return Err(format!("unknown type {kind}")) };
        for v in validate(message, bytes) {
            let mut e = v.into_error();
            match e.severity {
                Severity::Refused => {}
                Severity::Unknown if self.reject_unknown => {}
                _ => {
                    e.source = kind.to_owned();
                    self.remarks.of_resource(&e);
                    continue;
                }
            }
            return Err(match e.path.is_empty() {
                true => e.phrase,
                false => format!("{} (at {})", e.phrase, e.path),
            });
        }
        match self.coverage.check(kind, bytes).into_iter().next() {
            None => Ok(()),
            Some(u) => Err(format!("{} (at {})", BuildError::not_implemented(&u.field).0, u.path)),
        }
    }
}
