//! Network filters before the last one: they let a connection through, or not.

use crate::ecds::{self, Slot};
use crate::http::CloseReason;
use crate::io::Io;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::filter::BuildCx;
use nuncio_core::info::ConnInfo;
use nuncio_core::network_filter::{Access, DynNetworkFilter};
use nuncio_wire::ReadBuf;
use std::any::Any;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The network filters before the last one of a chain.
pub type NetworkFilters = Arc<[NetworkFilter]>;

/// One of them.
pub enum NetworkFilter {
    /// As it is configured.
    Fixed(Arc<dyn DynNetworkFilter>),
    /// `config_discovery`
    Discovered(Arc<Slot<Arc<dyn DynNetworkFilter>>>),
}

impl NetworkFilter {
    /// For a connection that begins; none while the configuration is missing.
    fn get(&self) -> Option<Arc<dyn DynNetworkFilter>> {
        match self {
            NetworkFilter::Fixed(f) => Some(f.clone()),
            NetworkFilter::Discovered(slot) => slot.get().as_ref().clone(),
        }
    }
}

/// The configuration of a filter is missing: the connection is to be closed.
pub struct Unconfigured;

/// Builds them; `before_http`: the last filter is a connection manager, which tells them of the first bytes only.
///
/// # Errors
/// One is unknown, or refuses its configuration; or it must be the last.
pub fn build(filters: &[pb::Filter], before_http: bool, cx: &BuildCx<'_>) -> BuildResult<NetworkFilters> {
    let root = cx.scope.store().root();
    let cx = BuildCx { scope: &root, ..*cx };
    let build = move |name: &str, any: &prost_types::Any, cx: &BuildCx<'_>| {
        let filter = cx.registry.build_network_filter(name, any, cx)?;
        match filter.every_piece() && before_http {
            true => Err(BuildError::not_implemented("RBAC.enforcement_type: CONTINUOUS before HTTP")),
            false => Ok(filter),
        }
    };
    let one = |f: &pb::Filter| {
        let any = match &f.config_type {
            Some(pb::filter::ConfigType::TypedConfig(any)) => any.clone(),
            Some(pb::filter::ConfigType::ConfigDiscovery(c)) => {
                let name = f.name.clone();
                let make = move |any: &prost_types::Any, cx: &BuildCx<'_>| build(&name, any, cx);
                let slot = ecds::discover("network_filter", &f.name, c, &cx, make)?;
                return Ok(NetworkFilter::Discovered(slot));
            }
            None => prost_types::Any::default(),
        };
        build(&f.name, &any, &cx).map(NetworkFilter::Fixed)
    };
    filters.iter().map(one).collect()
}

/// The filters of one connection, with their state; lives as long as the connection.
pub struct Gate {
    filters: Vec<Arc<dyn DynNetworkFilter>>,
    states: Vec<Box<dyn Any>>,
    conn: Rc<ConnInfo>,
    /// Some filter wants to see bytes still.
    watching: bool,
    /// Some filter has let it wait.
    waited: bool,
}

impl Gate {
    /// The gate of a connection; none where its chain has no such filters.
    ///
    /// # Errors
    /// The configuration of one is missing.
    pub fn new(filters: &NetworkFilters, conn: &Rc<ConnInfo>) -> Result<Option<Box<Gate>>, Unconfigured> {
        if filters.is_empty() {
            return Ok(None);
        }
        let filters: Option<Vec<_>> = filters.iter().map(NetworkFilter::get).collect();
        let filters = filters.ok_or(Unconfigured)?;
        let states = filters.iter().map(|f| f.state()).collect();
        let watching = filters.iter().any(|f| f.wants_data());
        Ok(Some(Box::new(Gate { filters, states, conn: conn.clone(), watching, waited: false })))
    }
    /// The connection has come. False, after some time perhaps: it is to be closed.
    pub async fn opens(&mut self) -> bool {
        for (f, st) in self.filters.iter().zip(&mut self.states) {
            let mut access = f.on_new_connection(&mut **st, &self.conn);
            if access == Access::Granted
                && let Some(asked) = f.admits(&mut **st, &self.conn)
            {
                self.waited = true;
                access = asked.await;
            }
            if let Access::Refused(after, why) = access {
                refuse(&self.conn, after, why).await;
                return false;
            }
        }
        true
    }
    /// It was refused: what has come while it waited is taken in, so that its end is no reset.
    pub async fn drain(&self, secured: impl Future<Output = Option<(Io, ReadBuf)>>) {
        if !self.waited {
            return;
        }
        let mut secured = pin!(secured);
        poll_fn(|cx| {
            if let Poll::Ready(Some((mut io, mut read))) = secured.as_mut().poll(cx) {
                let _ = io.poll_read_at_least(cx, &mut read, 1);
            }
            Poll::Ready(())
        })
        .await;
    }
    /// Its TLS handshake is done, or it has none.
    pub fn secured(&mut self) {
        if self.conn.tls.get().is_some() {
            for (f, st) in self.filters.iter().zip(&mut self.states) {
                f.on_handshake(&mut **st, &self.conn);
            }
        }
    }
    /// Bytes have come. False: it is to be closed.
    pub fn passes(&mut self) -> bool {
        self.asks().is_none()
    }
    fn asks(&mut self) -> Option<(Duration, &'static str)> {
        if !self.watching {
            return None;
        }
        self.watching = self.filters.iter().any(|f| f.every_piece());
        for (f, st) in self.filters.iter().zip(&mut self.states).filter(|(f, _)| f.wants_data()) {
            if let Access::Refused(after, why) = f.on_data(&mut **st, &self.conn) {
                *self.conn.end().local_close_reason.borrow_mut() = why.into();
                return Some((after, why));
            }
        }
        None
    }
    /// Lets a connection through to what speaks first never: after its first bytes, which are awaited for `idle` at most.
    ///
    /// # Errors
    /// It is to be closed, or was.
    pub async fn admit(
        &mut self,
        secured: impl Future<Output = Result<(Io, ReadBuf), CloseReason>>,
        idle: Option<Duration>,
    ) -> Result<(Io, ReadBuf), CloseReason> {
        if !self.opens().await {
            self.drain(async { secured.await.ok() }).await;
            return Err(CloseReason::Local);
        }
        let (mut io, mut read) = secured.await?;
        self.secured();
        if !self.watching {
            return Ok((io, read));
        }
        if read.is_empty() {
            let first = poll_fn(|cx| io.poll_read_at_least(cx, &mut read, 1));
            let came = match idle {
                None => first.await,
                Some(t) => match clock::timeout(TimerKind::HttpDownstreamConnectionIdle, t, first).await {
                    Ok(came) => came,
                    Err(_) => return Err(CloseReason::IdleTimeout),
                },
            };
            match came {
                Ok(0) | Err(_) => return Err(CloseReason::Remote),
                Ok(_) => {}
            }
        }
        match self.asks() {
            None => Ok((io, read)),
            Some((after, why)) => {
                refuse(&self.conn, after, why).await;
                Err(CloseReason::Local)
            }
        }
    }
}

async fn refuse(conn: &ConnInfo, after: Duration, why: &'static str) {
    *conn.end().local_close_reason.borrow_mut() = why.into();
    if !after.is_zero() {
        clock::sleep(TimerKind::Other, after).await;
    }
}
