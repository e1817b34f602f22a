//! Calls that the proxy makes on its own account, through ordinary clusters.

use super::local::{Clusters, LocalHost};
use super::stream::UpStream;
use nuncio_core::LocalBoxFuture;
use nuncio_core::address::Address;
use nuncio_core::body::{Body, BodyError, Frame};
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{ResetReason, StreamError};
use nuncio_core::info::{ConnInfo, ListenerInfo, StreamShared};
use nuncio_core::upstreams::{CallOptions, Upstreams};
use nuncio_wire::{RequestHead, ResponseHead, Version};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

/// The clusters of this thread, as extensions call them.
pub struct Client;

impl Upstreams for Client {
    fn http(
        &self,
        cluster: &str,
        head: RequestHead,
        body: Body,
        options: CallOptions,
    ) -> LocalBoxFuture<'static, Result<(ResponseHead, Body), StreamError>> {
        let cluster = cluster.to_owned();
        Box::pin(async move {
            let call = call(&cluster, head, body);
            match options.timeout {
                None => call.await,
                Some(t) => match clock::timeout(TimerKind::Other, t, call).await {
                    Ok(r) => r,
                    Err(_) => {
                        Err(StreamError { reason: ResetReason::LocalReset, transport: "timeout".into() })
                    }
                },
            }
        })
    }
}

async fn call(cluster: &str, head: RequestHead, body: Body) -> Result<(ResponseHead, Body), StreamError> {
    let missing = |text| StreamError { reason: ResetReason::LocalReset, transport: text };
    let cluster = Clusters::here().get(cluster).ok_or_else(|| missing("unknown cluster".into()))?;
    let host = cluster.choose().ok_or_else(|| missing("no healthy upstream".into()))?;
    let r = exchange(&host, head, body).await;
    if let Some(m) = host.host.monitor.get() {
        match &r {
            Ok((head, _)) => m.answered(head.status),
            Err(e) if matches!(e.reason, ResetReason::Overflow | ResetReason::PendingOverflow) => {}
            Err(_) => m.failed(),
        }
    }
    r
}

async fn exchange(
    host: &LocalHost,
    head: RequestHead,
    mut body: Body,
) -> Result<(ResponseHead, Body), StreamError> {
    let got = host.pool.acquire(Version::Http2, 0).await?;
    if let Some(m) = host.host.monitor.get() {
        m.connected();
    }
    let mut stream: UpStream = got.stream;
    let sx = stream_of_our_own();
    let mut end = body.is_end();
    stream.writer.send_head(&head, end)?;
    while !end {
        match body.frame(&sx).await {
            Some(Ok(Frame::Data(c))) => {
                poll_fn(|cx| stream.writer.poll_ready(cx)).await?;
                stream.writer.send_data(c);
            }
            Some(Ok(Frame::Trailers(t))) => {
                stream.writer.send_end(Some(&t));
                end = true;
            }
            None => {
                stream.writer.send_end(None);
                end = true;
            }
            Some(Err(BodyError::Reset(r))) => return Err(r.into()),
            Some(Err(BodyError::Reply(_))) => return Err(ResetReason::LocalReset.into()),
        }
    }
    loop {
        let r = poll_fn(|cx| stream.poll_head(cx, &sx)).await?;
        if !r.head.is_informational() {
            let body = if r.end { Body::Empty } else { stream.into_body() };
            return Ok((r.head, body));
        }
    }
}

/// Facts for a call that no client's request stands behind.
fn stream_of_our_own() -> Rc<StreamShared> {
    let nowhere = Address::Internal("self".into(), "".into());
    let conn = ConnInfo::new(0, Arc::new(ListenerInfo::default()), nowhere.clone(), nowhere);
    StreamShared::new(Rc::new(conn), None)
}
