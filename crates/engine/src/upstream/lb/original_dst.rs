//! `type: ORIGINAL_DST`: a connection or request goes where it wanted to go before it was sent here: to the address that
//! a header, metadata or the filter state names, or to which the connection was made. Hosts come about on the workers; main
//! adds them to the cluster, and takes those away that nobody uses.

use super::LbContext;
use super::metadata_key::MetadataKey;
use super::pick::{Picked, Picker, Picking};
use crate::upstream::host::{Host, Wanted};
use crate::upstream::original::add_host;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::info::HostInfo;
use nuncio_wire::HeaderName;
use prost_types::value::Kind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What is read of the message.
pub const COVERED: &[Covered] = &[Covered::new(
    "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
    &["use_http_header", "http_header_name", "upstream_port_override", "metadata_key"],
)];

/// An object of the filter state under this name goes before everything else.
const FILTER_STATE: &str = "envoy.network.transport_socket.original_dst_address";
/// Most hosts of a cluster: a client that may name them cannot make more.
pub const MOST_HOSTS: usize = 65_536;

/// `OriginalDstLbConfig`
#[derive(Debug)]
pub struct OriginalDst {
    header: Option<HeaderName>,
    metadata: Option<MetadataKey>,
    port: Option<u16>,
    /// `cleanup_interval`: how often hosts are looked for that nobody uses.
    pub cleanup: Duration,
}

impl OriginalDst {
    /// Of a cluster of the type.
    ///
    /// # Errors
    /// Another policy than `CLUSTER_PROVIDED`, hosts in the configuration, or a header without leave to use it.
    pub fn new(c: &pb::Cluster) -> BuildResult<OriginalDst> {
        if c.lb_policy() != pb::cluster::LbPolicy::ClusterProvided {
            return Err(format!(
                "cluster: LB policy {} is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed \
                 with cluster type 'ORIGINAL_DST'",
                c.lb_policy().as_str_name()
            )
            .into());
        }
        if c.load_assignment.is_some() {
            return Err("ORIGINAL_DST clusters must have no load assignment configured".into());
        }
        let config = match &c.lb_config {
            Some(pb::cluster::LbConfig::OriginalDstLbConfig(o)) => o.clone(),
            _ => Default::default(),
        };
        let name = &config.http_header_name;
        if !config.use_http_header && !name.is_empty() {
            return Err(format!(
                "ORIGINAL_DST cluster: invalid config http_header_name={name} and use_http_header is false. Set \
                 use_http_header to true if http_header_name is desired."
            )
            .into());
        }
        let name = if name.is_empty() { "x-envoy-original-dst-host" } else { name };
        Ok(OriginalDst {
            header: config.use_http_header.then(|| HeaderName::new(name)),
            metadata: config.metadata_key.as_ref().map(MetadataKey::new).transpose()?,
            port: config.upstream_port_override.map(|p| p as u16),
            cleanup: crate::proto::duration_or(&c.cleanup_interval, Duration::from_secs(5))?,
        })
    }
    /// The host for a request.
    pub fn pick(&self, picker: &mut Picker, p: &Picking<'_>) -> Option<Picked> {
        let mut to = self.destination(p)?;
        if let Some(port) = self.port {
            to.set_port(port);
        }
        if let Some(at) = p.set.by_address.as_ref().and_then(|m| m.get(&to)) {
            p.set.hosts.get(*at as usize)?.set_used();
            return Some(Picked::At(*at));
        }
        if let Some(h) = picker.made.get(&to) {
            return Some(Picked::Host(h.clone()));
        }
        if p.set.hosts.len() + picker.made.len() >= MOST_HOSTS {
            return None;
        }
        p.plan.stats.default_total_match_count().inc(); // each host is matched to the one transport socket
        let host = Arc::new(host(&p.plan.name, to));
        host.set_used();
        picker.made.insert(to, host.clone());
        add_host(p.plan.name.clone(), host.clone());
        Some(Picked::Host(host))
    }
    fn destination(&self, p: &Picking<'_>) -> Option<SocketAddr> {
        self.by_filter_state(p.cx)
            .or_else(|| self.by_metadata(p))
            .or_else(|| self.by_header(p))
            .or_else(|| restored(p.cx))
    }
    fn by_filter_state(&self, cx: &dyn LbContext) -> Option<SocketAddr> {
        let object = cx.info().and_then(|i| i.filter_state.borrow().get(FILTER_STATE));
        let object = object.or_else(|| cx.conn()?.filter_state.borrow().get(FILTER_STATE))?;
        object.text()?.parse().ok()
    }
    fn by_metadata(&self, p: &Picking<'_>) -> Option<SocketAddr> {
        let metadata = p.cx.info()?.metadata.borrow();
        let mut value = self.metadata.as_ref()?.find(metadata.as_ref()?)?;
        if let Some(Kind::ListValue(l)) = &value.kind
            && let Some(first) = l.values.first()
        {
            value = first;
        }
        match &value.kind {
            Some(Kind::StringValue(s)) => parsed(s, p),
            _ => None,
        }
    }
    fn by_header(&self, p: &Picking<'_>) -> Option<SocketAddr> {
        let value = p.cx.head()?.headers.get_all(self.header.as_ref()?).next()?;
        parsed(std::str::from_utf8(value).unwrap_or_default(), p)
    }
}

/// An address with a port, as a client names it.
fn parsed(text: &str, p: &Picking<'_>) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        p.plan.stats.original_dst_host_invalid().inc();
    }
    address
}

/// To where the connection was made, if something has sent it here instead.
fn restored(cx: &dyn LbContext) -> Option<SocketAddr> {
    let conn = cx.conn()?;
    match &*conn.local.borrow() {
        Address::Ip(a) if conn.direct_local != Address::Ip(*a) => Some(*a),
        _ => None,
    }
}

fn host(cluster: &str, to: SocketAddr) -> Host {
    let address = Address::from(to);
    let text = address.to_string();
    let info = HostInfo {
        hostname: format!("{cluster}{text}").into(),
        address_text: text.into(),
        address: Some(address),
        ..HostInfo::default()
    };
    Host::new(Wanted { info: Arc::new(info), weight: 1, ..Wanted::default() })
}
