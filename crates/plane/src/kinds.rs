//! The kinds of resources, and the services that bring one of them alone.

/// What type URLs begin with.
pub const HOST: &str = "type.googleapis.com/";

/// One kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// What people call it.
    pub short: &'static str,
    /// Full name of its message.
    pub message: &'static str,
    /// What the methods of its own service end with.
    method: &'static str,
    /// A request that names nothing means all of them.
    pub all_by_default: bool,
}

const fn kind(short: &'static str, message: &'static str, method: &'static str, all: bool) -> Kind {
    Kind { short, message, method, all_by_default: all }
}

/// All kinds, in the order in which an update of several is sent so that nothing names what is not there yet: clusters
/// before what they consist of, both before what leads to them.
pub const KINDS: [Kind; 9] = [
    kind("secrets", "envoy.extensions.transport_sockets.tls.v3.Secret", "Secrets", false),
    kind("clusters", "envoy.config.cluster.v3.Cluster", "Clusters", true),
    kind("endpoints", "envoy.config.endpoint.v3.ClusterLoadAssignment", "Endpoints", false),
    kind("runtime", "envoy.service.runtime.v3.Runtime", "Runtime", false),
    kind("extensions", "envoy.config.core.v3.TypedExtensionConfig", "ExtensionConfigs", false),
    kind("listeners", "envoy.config.listener.v3.Listener", "Listeners", true),
    kind("scoped routes", "envoy.config.route.v3.ScopedRouteConfiguration", "ScopedRoutes", true),
    kind("routes", "envoy.config.route.v3.RouteConfiguration", "Routes", false),
    kind("virtual hosts", "envoy.config.route.v3.VirtualHost", "VirtualHosts", false),
];

/// The kind of a type URL.
pub fn by_url(url: &str) -> Option<&'static Kind> {
    let message = url.rsplit('/').next().unwrap_or_default();
    KINDS.iter().find(|k| k.message == message)
}

/// What a stream of this method carries: the kind, none for all of them, and whether it is delta. `None`: no such method.
pub fn by_path(path: &str) -> Option<(Option<&'static Kind>, bool)> {
    let method = path.rsplit('/').next().unwrap_or_default();
    let (delta, what) = match (method.strip_prefix("Delta"), method.strip_prefix("Stream")) {
        (Some(what), _) => (true, what),
        (None, Some(what)) => (false, what),
        (None, None) => return None,
    };
    if what == "AggregatedResources" {
        return Some((None, delta));
    }
    KINDS.iter().find(|k| k.method == what).map(|k| (Some(k), delta))
}

impl Kind {
    /// Its type URL.
    pub fn url(&self) -> String {
        format!("{HOST}{}", self.message)
    }
    /// Its place in [`KINDS`].
    pub(crate) fn rank(&self) -> usize {
        KINDS.iter().position(|k| k == self).unwrap_or(KINDS.len())
    }
}
