//! Resources that are polled for (`api_type: REST`): a request in JSON at every refresh, a `DiscoveryResponse` in JSON as the answer.

use super::resource::{received, rest_path, type_url};
use super::watch::Watch;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use nuncio_api::json::{JsonOptions, write_json};
use nuncio_api::load::{Format, UnknownFields, parse_message};
use nuncio_api::schema;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::discovery::{Removed, Update};
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::upstreams::{Answer, CallOptions, HttpClient};
use nuncio_core::{Body, log, rng};
use nuncio_wire::{HeaderMap, RequestHead, Version, name};
use prost::{Message, Name};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longest answer that is taken, in bytes.
const MOST: usize = 256 << 20;

/// `ApiConfigSource`, of this type.
pub struct Poll {
    client: Arc<dyn HttpClient>,
    path: &'static str,
    /// `refresh_delay`
    every: Duration,
    /// `request_timeout`
    timeout: Duration,
    node: Rc<core::Node>,
    unknown: UnknownFields,
}

/// Whether such a source can be used.
///
/// # Errors
/// It cannot.
pub fn check(c: &core::ApiConfigSource) -> BuildResult<()> {
    const NAME: &str = "envoy.config.core.v3.ApiConfigSource";
    if c.cluster_names.is_empty() && c.grpc_services.is_empty() {
        return Err("API configs must have either a gRPC service or a cluster name defined".into());
    }
    if !c.grpc_services.is_empty() {
        return Err(format!("{NAME}, if not a gRPC type, must not have a gRPC service specified").into());
    }
    if c.cluster_names.len() != 1 {
        return Err(format!("{NAME} must have a singleton cluster name specified").into());
    }
    if c.refresh_delay.is_none() {
        return Err("refresh_delay is required for REST API configuration sources".into());
    }
    Ok(())
}

/// The cluster that such a source asks; it was checked.
pub fn cluster(c: &core::ApiConfigSource) -> &str {
    c.cluster_names.first().map_or("", String::as_str)
}

impl Poll {
    /// Polls for resources of a kind.
    ///
    /// # Errors
    /// They have no such service.
    pub fn new(
        c: &core::ApiConfigSource,
        kind: &str,
        client: Arc<dyn HttpClient>,
        node: Rc<core::Node>,
        unknown: UnknownFields,
    ) -> BuildResult<Poll> {
        let path =
            rest_path(kind).ok_or_else(|| BuildError::not_implemented(format_args!("REST for {kind}")))?;
        let time = |d: Option<prost_types::Duration>| d.and_then(|d| Duration::try_from(d).ok());
        Ok(Poll {
            client,
            path,
            every: time(c.refresh_delay).unwrap_or_default().max(Duration::from_millis(1)),
            timeout: time(c.request_timeout).unwrap_or(Duration::from_secs(1)),
            node,
            unknown,
        })
    }
    /// Polls, for ever.
    pub async fn run(self, watch: Rc<Watch>) {
        let mut version = String::new();
        loop {
            watch.attempt();
            match self.ask(&watch, &version).await {
                Err(why) => {
                    log!(Config, Warning, "REST update for {} failed: {why}", self.path);
                    watch.unanswered();
                }
                Ok(None) => {}
                Ok(Some(json)) => match self.take(&watch, &json) {
                    Ok(v) => version = v,
                    Err(why) => {
                        log!(Config, Warning, "REST config for {} rejected: {why}", self.path);
                        watch.rejected(&why);
                    }
                },
            }
            let jitter = rng::below(u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).max(1));
            clock::sleep(TimerKind::Other, self.every.saturating_add(Duration::from_millis(jitter))).await;
        }
    }
    /// One request: what is in the answer; none when nothing is new.
    async fn ask(&self, watch: &Watch, version: &str) -> Result<Option<Vec<u8>>, String> {
        let request = DiscoveryRequest {
            version_info: version.to_owned(),
            node: Some(Box::new((*self.node).clone())),
            resource_names: watch.name.iter().cloned().collect(),
            type_url: type_url(watch.kind),
            ..Default::default()
        };
        let mut json = String::new();
        if let Some(m) = schema::message(&DiscoveryRequest::full_name()) {
            // A String takes everything.
            let _ = write_json(&mut json, m, &request.encode_to_vec(), JsonOptions::default());
        }
        let mut h = HeaderMap::new();
        h.append(name::METHOD, b"POST");
        h.append(name::PATH, self.path.as_bytes());
        h.append(name::AUTHORITY, self.client.cluster().as_bytes());
        h.append(name::SCHEME, b"http");
        h.append(name::CONTENT_TYPE, b"application/json");
        h.append(name::CONTENT_LENGTH, json.len().to_string().as_bytes());
        let head = RequestHead { headers: h, version: Version::Http11 };
        let options = CallOptions { timeout: Some(self.timeout) };
        let answer = self.client.call(head, Body::full(json.into_bytes()), options).await;
        let Answer { head, mut body, sx } = answer.map_err(|e| format!("{e:?}"))?;
        // To the end, whatever it says: the connection can be used again.
        let mut all = Vec::new();
        while let Some(frame) = body.frame(&sx).await {
            if let nuncio_core::Frame::Data(data) = frame.map_err(|e| format!("{e:?}"))? {
                if all.len() + data.len() > MOST {
                    return Err("the answer is too long".to_owned());
                }
                all.extend_from_slice(&data);
            }
        }
        match head.status {
            200 => Ok(Some(all)),
            304 => Ok(None),
            other => Err(format!("status {other}")),
        }
    }
    /// Takes over an answer: its version.
    fn take(&self, watch: &Watch, json: &[u8]) -> Result<String, String> {
        let loaded = parse_message::<DiscoveryResponse>(json, Format::Json, self.path, self.unknown);
        let response = loaded.map_err(|e| e.envoy_phrase().to_owned())?.message;
        let version: Arc<str> = response.version_info.as_str().into();
        let url = type_url(watch.kind);
        let all = response.resources.into_iter().map(|any| received(any, &url, &version));
        let all: Vec<_> = all.collect::<Result<Vec<_>, String>>()?;
        let mut resources: Vec<_> = all.into_iter().filter_map(|r| r.resource).collect();
        if let Some(name) = &watch.name {
            resources.retain(|r| r.name == *name);
            resources.truncate(1);
        }
        let u = Update { resources: &resources, removed: Removed::Others, version: &version };
        watch.deliver(&u, false)?;
        Ok(response.version_info)
    }
}
