//! `tunneling_config`: the bytes of a connection go through an HTTP proxy, as the body of a CONNECT (or POST) and of its
//! answer.
//!
//! Read in this order: [`config`] (what main builds), this file (the request and its answer), [`relay`] (the bytes).

pub mod config;
pub mod relay;
mod state;

pub use config::TunnelPlan;

use crate::upstream::host::Host;
use crate::upstream::local::{Cluster, LocalHost, PoolKey};
use crate::upstream::pool::Wants;
use crate::upstream::stream::{UpConn, UpWriter};
use nuncio_core::body::Body;
use nuncio_core::clock;
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::filter_state::LifeSpan;
use nuncio_core::format::FormatCx;
use nuncio_core::info::{ConnInfo, StreamInfo, StreamShared};
use nuncio_core::rng;
use nuncio_wire::{HeaderMap, RequestHead, ResponseHead, Version, name};
use prost_types::{Struct, Value, value::Kind};
use state::Headers;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Instant;

/// The objects that tell of the answer.
const RESPONSE_HEADERS: &str = "envoy.tcp_proxy.propagate_response_headers";
const RESPONSE_TRAILERS: &str = "envoy.tcp_proxy.propagate_response_trailers";
/// Where the request's id goes.
const METADATA: &str = "envoy.filters.network.tcp_proxy";

/// A tunnel that the upstream has agreed to. Dropping it resets the stream; over HTTP/1 that closes the connection.
pub struct TunnelUp {
    writer: UpWriter,
    body: Body,
    sx: Rc<StreamShared>,
    cluster: Rc<Cluster>,
    /// Over HTTP/1 a tunnel has no half-close.
    http1: bool,
}

/// Asks a host for a tunnel; `began`: when the client's connection began to be connected.
///
/// # Errors
/// There is no connection to be had, or the host refuses.
pub async fn open(
    plan: &TunnelPlan,
    cluster: &Rc<Cluster>,
    host: &Rc<LocalHost>,
    conn: &Rc<ConnInfo>,
    info: &StreamInfo,
    began: Instant,
) -> Result<TunnelUp, StreamError> {
    let sx = StreamShared::new(conn.clone(), None);
    let options = cluster.plan.transports.options(None, conn);
    let client = cluster.plan.pool_per_connection.then(|| conn.id.get());
    let key = PoolKey { options, priority: 0, client };
    let own = (!key.is_usual()).then(|| host.pool_for(key, cluster));
    let pool = own.as_deref().unwrap_or(&host.pool);
    if !host.admits(pool, cluster) {
        return Err(ResetReason::PendingOverflow.into());
    }
    let got = pool.acquire(Version::Http11, 0, Wants { sure: true, fresh: false }).await?;
    let mut stream = got.stream;
    let http1 = note(&host.host, stream.conn(), info, began);
    let tls = info.upstream.borrow().tls.is_some();
    let head = request(plan, conn, info, http1, tls);
    stream.writer.send_head(&head, false)?;
    let response = loop {
        let r = poll_fn(|cx| stream.poll_head(cx, &sx)).await?;
        if !r.head.is_informational() {
            break r;
        }
    };
    let status = response.head.status;
    let agreed = !response.end && is_agreement(&response.head, http1);
    if plan.propagate_headers {
        propagate(conn, RESPONSE_HEADERS, response.head);
    }
    if !agreed {
        let transport = format!("tunnel_response:{status}").into();
        return Err(StreamError { reason: ResetReason::RemoteConnectionFailure, transport });
    }
    let (writer, cluster) = (stream.writer.clone(), cluster.clone());
    Ok(TunnelUp { writer, body: stream.into_body(), sx, cluster, http1 })
}

/// RFC 9110 section 9.3.6 has any 2xx; over HTTP/2 Envoy wants 200.
fn is_agreement(head: &ResponseHead, http1: bool) -> bool {
    match http1 {
        true => (200..300).contains(&head.status),
        false => head.status == 200,
    }
}

/// Notes the connection for the logs. True for HTTP/1.
fn note(host: &Host, conn: &UpConn, info: &StreamInfo, began: Instant) -> bool {
    let (id, facts, http1) = match conn {
        UpConn::H1(c) => (c.id, &c.facts, true),
        UpConn::H2(c) => (c.id, &c.facts, false),
    };
    let mut up = info.upstream.borrow_mut();
    up.connection_id = Some(id);
    up.connections_attempted.push(id);
    up.local_address.clone_from(&facts.local);
    up.remote_address = facts.remote.clone().or_else(|| host.info.address.clone());
    up.tls.clone_from(&facts.tls);
    up.pool_ready = Some(clock::now().saturating_duration_since(began));
    http1
}

fn request(plan: &TunnelPlan, conn: &ConnInfo, info: &StreamInfo, http1: bool, tls: bool) -> RequestHead {
    let cx = FormatCx::new(info, conn);
    let mut authority = vec![];
    plan.hostname.append(&cx, &mut authority);
    let mut headers = HeaderMap::new();
    headers.append(name::METHOD, if plan.post_path.is_some() { b"POST" } else { b"CONNECT" });
    headers.append(name::AUTHORITY, &authority);
    if let Some(path) = &plan.post_path {
        headers.append(name::PATH, path.as_bytes());
        if !http1 {
            headers.append(name::SCHEME, if tls { b"https" } else { b"http" });
        }
    }
    if let Some(id) = &plan.request_id {
        let made = rng::uuid4();
        headers.append(&id.header, &made);
        let text = String::from_utf8_lossy(&made).into_owned();
        let value = Value { kind: Some(Kind::StringValue(text)) };
        let fields = Struct { fields: [(id.key.clone(), value)].into() };
        conn.metadata.borrow_mut().merge(METADATA, fields);
    }
    plan.headers.make(&headers, &cx).apply(&mut headers);
    RequestHead { headers, version: Version::Http11 }
}

/// Keeps the headers of the answer for whoever logs the connection.
fn propagate(conn: &ConnInfo, key: &'static str, head: ResponseHead) {
    let all = Headers::of_response(&head);
    conn.filter_state.borrow_mut().set(key, LifeSpan::Connection, Rc::new(all));
}
