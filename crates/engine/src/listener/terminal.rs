//! The last network filter of a chain: what serves its connections.

use crate::http::config::ListenerCx;
use crate::http::drain::Drain;
use crate::http::{Hcm, HcmPlan};
use crate::proto;
use crate::tcp::TcpPlan;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::registry::Kind;
use nuncio_core::terminal_filter::DynTerminalFilter;
use std::rc::Rc;
use std::sync::Arc;

/// As main builds it.
#[derive(Clone)]
pub enum TerminalPlan {
    /// `envoy.filters.network.http_connection_manager`
    Http(Arc<HcmPlan>),
    /// `envoy.filters.network.tcp_proxy`
    Tcp(Arc<TcpPlan>),
    /// An extension that answers itself (`envoy.filters.network.echo`).
    Own(Arc<dyn DynTerminalFilter>),
}

/// On one worker.
#[derive(Clone)]
pub enum Terminal {
    /// `envoy.filters.network.http_connection_manager`
    Http(Rc<Hcm>),
    /// `envoy.filters.network.tcp_proxy`
    Tcp(Arc<TcpPlan>),
    /// An extension that answers itself (`envoy.filters.network.echo`).
    Own(Arc<dyn DynTerminalFilter>),
}

impl TerminalPlan {
    /// Builds the last of a chain's filters; none: every connection is closed at once.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(
        filters: &[pb::Filter],
        listener: &ListenerCx<'_>,
        cx: &BuildCx<'_>,
    ) -> BuildResult<Option<TerminalPlan>> {
        const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        const TCP: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        let Some((last, before)) = filters.split_last() else { return Ok(None) };
        for f in before {
            let Some(pb::filter::ConfigType::TypedConfig(any)) = &f.config_type else { continue };
            let well_known = match any.type_url.rsplit('/').next() {
                Some(HCM) => "envoy.filters.network.http_connection_manager",
                Some(TCP) => "envoy.filters.network.tcp_proxy",
                _ => match cx.registry.terminal_name(&any.type_url) {
                    Some(name) => name,
                    None => continue,
                },
            };
            return Err(BuildError(format!(
                "Error: terminal filter named {} of type {well_known} must be the last filter in a network filter chain.",
                f.name
            )));
        }
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &last.config_type else {
            return Err(nuncio_api::extensions::unregistered(&last.name, "").into());
        };
        Ok(Some(match any.type_url.rsplit('/').next() {
            Some(HCM) => TerminalPlan::Http(Arc::new(HcmPlan::new(&proto::unpack(any)?, listener, cx)?)),
            Some(TCP) => TerminalPlan::Tcp(Arc::new(TcpPlan::new(&proto::unpack(any)?, cx)?)),
            _ if cx.registry.terminal_name(&any.type_url).is_some() => {
                TerminalPlan::Own(cx.registry.build_terminal_filter(&last.name, any, cx)?)
            }
            _ => {
                cx.registry.build_network_filter(&last.name, any, cx)?;
                return Err(BuildError(format!(
                    "Error: non-terminal filter named {} of type {} is the last filter in a network filter chain.",
                    last.name,
                    cx.registry.name_of(Kind::NetworkFilter, &any.type_url).unwrap_or(&last.name)
                )));
            }
        }))
    }
    /// For one worker; `kept` is what serves the same chain there already.
    pub fn instantiate(&self, kept: Option<&Terminal>) -> Terminal {
        match (self, kept) {
            (TerminalPlan::Http(new), Some(Terminal::Http(kept))) => {
                kept.set_routes(new.routes.clone());
                Terminal::Http(kept.clone())
            }
            (TerminalPlan::Http(new), _) => Terminal::Http(new.instantiate()),
            (TerminalPlan::Tcp(new), _) => Terminal::Tcp(new.clone()),
            (TerminalPlan::Own(new), _) => Terminal::Own(new.clone()),
        }
    }
}

impl Terminal {
    /// Its connections are to end.
    pub fn drain(&self, drain: Drain) {
        match self {
            Terminal::Http(hcm) => hcm.drain.begin(drain),
            // Nothing can be said in a stream of bytes.
            Terminal::Tcp(_) | Terminal::Own(_) => {}
        }
    }
}
