//! How the host of a request is found that goes wherever it says.

use super::names::key_of;
use crate::upstream::health::Health;
use crate::upstream::lb::LbContext;
use crate::upstream::lb::pick::{Picked, Picking};
use nuncio_core::upstreams::{DnsCache, Lookup};
use nuncio_wire::name;
use std::sync::Arc;

/// Objects of the filter state that go before the authority and its port.
const HOST: &str = "envoy.upstream.dynamic_host";
const PORT: &str = "envoy.upstream.dynamic_port";

/// The balancer of a cluster.
pub struct Forward {
    /// Knows the names.
    pub cache: Arc<dyn DnsCache>,
    /// The port of requests that name none.
    pub default_port: u16,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("default_port", &self.default_port).finish_non_exhaustive()
    }
}

/// Where a request wants to go.
pub struct Destination {
    host: String,
    port: u16,
}

impl Forward {
    /// Where a request wants to go; `None`: it does not say.
    pub fn destination(&self, cx: &dyn LbContext) -> Option<Destination> {
        let state = |key: &str| {
            let of_request = cx.info().and_then(|i| i.filter_state.borrow().get(key));
            of_request.or_else(|| cx.conn()?.filter_state.borrow().get(key))?.text()
        };
        let host = state(HOST)
            .or_else(|| Some(String::from_utf8_lossy(cx.head()?.headers.get(name::AUTHORITY)?).into_owned()))
            .or_else(|| cx.conn().filter(|_| cx.head().is_none())?.sni.get().cloned());
        let port = state(PORT).and_then(|p| p.parse().ok()).filter(|p| *p > 0);
        let host = host.filter(|h| !h.is_empty())?;
        Some(Destination { host, port: port.unwrap_or(self.default_port) })
    }
    /// The host for a request, if its name was resolved.
    pub fn pick(&self, p: &Picking<'_>) -> Option<Picked> {
        let to = self.destination(p.cx)?;
        let at = *p.set.by_name.as_ref()?.get(&*key_of(&to.host, to.port))?;
        let host = p.set.hosts.get(at as usize)?;
        if host.health.get() == Health::Unhealthy {
            return None;
        }
        host.set_used();
        Some(Picked::At(at))
    }
    /// Waits until the name of a request without a host is resolved.
    ///
    /// # Errors
    /// It is not: `%RESPONSE_CODE_DETAILS%`, and whether that was waited for. Envoy does not count a host as missing then.
    pub async fn resolve(&self, to: Option<Destination>) -> Result<(), (Arc<str>, bool)> {
        let Some(to) = to else { return Err(("empty_host_header".into(), false)) };
        match self.cache.look_up(&to.host, to.port) {
            Lookup::Known(r) => r.map(drop).map_err(|why| (why, false)),
            Lookup::Loading(f) => f.await.map(drop).map_err(|why| (why, true)),
            Lookup::Full => Err(("dns_cache_overflow".into(), false)),
            Lookup::Busy => Err(("dns_cache_pending_requests_overflow".into(), false)),
        }
    }
}
