//! The admin interface's transport: an ordinary listener and connection manager on main, with a function as the last
//! filter (`http.admin.`, `listener.admin.`).

use crate::http::config::ListenerCx;
use crate::http::{Handler, Hcm, HcmPlan, Last};
use crate::listener::chains::Chains;
use crate::listener::config::{ChainPlan, ListenerPlan};
use crate::listener::filters::Filters;
use crate::listener::terminal::{Terminal, TerminalPlan};
use crate::listener::worker::LocalListeners;
use crate::route::RouteTable;
use crate::stats::ListenerStats;
use nuncio_core::access_log::Logger;
use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::{Direction, ListenerInfo};
use nuncio_core::runtime::RuntimeNumber;
use std::sync::Arc;

/// Serves `handler` at `address`, on this thread, with these access logs; `limit_ignored` is `ignore_global_conn_limit`.
/// Returns the address, in which port 0 has become a real port.
///
/// # Errors
/// The address cannot be bound.
pub fn serve(
    address: &Address,
    handler: Handler,
    logs: Vec<Logger>,
    limit_ignored: bool,
    cx: &BuildCx<'_>,
) -> BuildResult<Address> {
    let scope = cx.scope.scope("listener").scope("admin");
    let mut hcm = HcmPlan::bare(
        "admin",
        &ListenerCx { scope: &scope, drains_with_health: false, bypasses_overload: true },
        cx,
        Arc::new(RouteTable::empty()),
    );
    hcm.use_remote_address = true;
    hcm.access_logs = logs;
    let hcm = Arc::new(hcm);
    let socket = crate::listener::bind_one(address)?;
    let bound = socket.address(address);
    let info = ListenerInfo { name: "admin".into(), direction: Direction::Unspecified, ..Default::default() };
    let plan = ListenerPlan {
        info: Arc::new(info),
        tag: ListenerPlan::next_tag(),
        addresses: vec![bound.clone().into()],
        binds: true,
        use_original_dst: false,
        filters: Filters::none(),
        matcher: Chains::new(&[], Some(0), "admin")?,
        chains: vec![Arc::new(ChainPlan {
            tag: ChainPlan::next_tag(),
            name: "admin".into(),
            tls: None,
            fingerprint: 0,
            handshake_timeout: None,
            terminal: Some(TerminalPlan::Http(hcm.clone())),
            network: Arc::default(),
        })],
        access_logs: vec![],
        backlog: 128,
        stats: ListenerStats::new(&scope),
        config_stats: None,
        scope,
        connection_limit: RuntimeNumber::fixed(u64::MAX),
        connections: Arc::default(),
        server: cx.server.state(),
        ignores_connection_limit: limit_ignored,
        bypasses_overload: true,
    };
    let hcm = Hcm::new(hcm, Last::Handler(handler));
    LocalListeners::here()
        .start(Arc::new(plan), vec![Some(Terminal::Http(hcm))], vec![socket], "main_thread")
        .map_err(|e| BuildError(e.to_string()))?;
    Ok(bound)
}
