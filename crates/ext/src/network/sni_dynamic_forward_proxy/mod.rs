use nuncio_api::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3 as pb;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::filter_state::{LifeSpan, StringObject};
use nuncio_core::info::ConnInfo;
use nuncio_core::network_filter::{Access, NetworkFilter};
use nuncio_core::registry::Docs;
use nuncio_core::upstreams::{DnsCache, Lookup};
use nuncio_core::{BuildResult, Registry};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Its well-known name.
pub const NAME: &str = "envoy.filters.network.sni_dynamic_forward_proxy";

/// What is read of its configuration.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
    &["dns_cache_config", "port_value"],
)];

/// Registers the filter.
pub(super) fn register(r: &mut Registry, docs: Docs) {
    r.network_filter::<SniForwardProxy>(NAME, docs);
}

const HOST: &str = "envoy.upstream.dynamic_host";
const PORT: &str = "envoy.upstream.dynamic_port";

/// The filter.
pub struct SniForwardProxy {
    cache: Arc<dyn DnsCache>,
    port: u16,
}

impl NetworkFilter for SniForwardProxy {
    type Config = pb::FilterConfig;
    type State = ();

    fn new(config: pb::FilterConfig, cx: &BuildCx<'_>) -> BuildResult<SniForwardProxy> {
        let cache = cx.server.dns_cache(&config.dns_cache_config.unwrap_or_default(), cx)?;
        let port = match config.port_specifier {
            Some(pb::filter_config::PortSpecifier::PortValue(p)) => p as u16, // validated
            None => 443,
        };
        Ok(SniForwardProxy { cache, port })
    }
    fn on_new_connection(self: &Arc<Self>, (): &mut (), conn: &Rc<ConnInfo>) -> Access {
        let text = |key: &str| conn.filter_state.borrow().get(key)?.text();
        let host = text(HOST).or_else(|| conn.sni.get().cloned()).filter(|h| !h.is_empty());
        let Some(host) = host else { return Access::Granted };
        let own = text(PORT).and_then(|p| p.parse().ok()).filter(|p| *p > 0);
        if own.is_none() {
            let object = Rc::new(StringObject(self.port.to_string().into()));
            conn.filter_state.borrow_mut().set(PORT, LifeSpan::Connection, object);
        }
        // It is on its way; the cluster waits for it.
        match self.cache.look_up(&host, own.unwrap_or(self.port)) {
            Lookup::Known(_) | Lookup::Loading(_) => Access::Granted,
            Lookup::Full | Lookup::Busy => Access::Refused(Duration::ZERO, ""),
        }
    }
}
