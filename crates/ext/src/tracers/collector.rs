//! A collector that is called by HTTP (`HttpService`).

use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::http_uri::HttpUpstreamType;
use nuncio_core::body::Body;
use nuncio_core::coverage::Covered;
use nuncio_core::error::BuildResult;
use nuncio_core::filter::BuildCx;
use nuncio_core::upstreams::{CallError, CallOptions, ClientOptions, HttpClient};
use nuncio_wire::{HeaderMap, HeaderName, RequestHead, Version, name};
use std::sync::Arc;
use std::time::Duration;

/// What is read of the service.
pub const COVERED: &[Covered] =
    &[Covered::new("envoy.config.core.v3.HttpService", &["http_uri", "request_headers_to_add"])];

/// A collector.
pub struct Collector {
    client: Arc<dyn HttpClient>,
    host: String,
    path: String,
    /// Added to each call, in the place of what is there.
    headers: Vec<(HeaderName, Vec<u8>)>,
}

/// Longest answer that is read, in bytes; nobody needs any of it.
const ANSWER: usize = 64 * 1024;

impl Collector {
    /// A collector at a host and path, reached through a cluster.
    ///
    /// # Errors
    /// This server calls nobody.
    pub fn new(cluster: &str, host: &str, path: &str, cx: &BuildCx<'_>) -> BuildResult<Collector> {
        let client = cx.server.http_client(&ClientOptions::new(cluster), cx)?;
        Ok(Collector { client, host: host.to_owned(), path: path.to_owned(), headers: vec![] })
    }
    /// The collector of an `HttpService`, and how long a call may take.
    ///
    /// # Errors
    /// As [`new`](Self::new), or the service names no cluster.
    pub fn of(s: &core::HttpService, cx: &BuildCx<'_>) -> BuildResult<(Collector, Duration)> {
        let uri = s.http_uri.clone().unwrap_or_default();
        let Some(HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
            return Err("field: \"http_upstream_type\", reason: is required".into());
        };
        let (host, path) = match uri.uri.split_once("://") {
            Some((_, rest)) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => (&**cluster, &*uri.uri),
        };
        let mut c = Collector::new(cluster, host, if path.is_empty() { "/" } else { path }, cx)?;
        let header = |o: &core::HeaderValueOption| {
            let h = o.header.clone().unwrap_or_default();
            (
                HeaderName::new(&h.key),
                if h.raw_value.is_empty() { h.value.into_bytes() } else { h.raw_value.to_vec() },
            )
        };
        c.headers = s.request_headers_to_add.iter().map(header).collect();
        let timeout = uri.timeout.and_then(|t| Duration::try_from(t).ok()).unwrap_or_default();
        Ok((c, timeout))
    }
    /// Posts a message; the status of the answer.
    ///
    /// # Errors
    /// There was none.
    pub async fn post(
        &self,
        content_type: &str,
        agent: Option<&str>,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<u16, CallError> {
        let mut h = HeaderMap::new();
        h.append(name::METHOD, b"POST");
        h.append(name::PATH, self.path.as_bytes());
        h.append(name::AUTHORITY, self.host.as_bytes());
        h.append(name::SCHEME, b"http");
        h.append(name::CONTENT_TYPE, content_type.as_bytes());
        if let Some(agent) = agent {
            h.append(name::USER_AGENT, agent.as_bytes());
        }
        for (name, value) in &self.headers {
            h.set(name, value);
        }
        let head = RequestHead { headers: h, version: Version::Http11 };
        let timeout = Some(timeout).filter(|t| !t.is_zero());
        let mut answer = self.client.call(head, Body::full(body), CallOptions { timeout }).await?;
        // Read, so that the connection can be used again.
        let _ = answer.body.buffer(ANSWER, &answer.sx).await;
        Ok(answer.head.status)
    }
}
