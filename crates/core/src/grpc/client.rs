//! `GrpcService`: whom to call.

use super::frame;
use super::google::{self, Channel};
use super::stream::{Receiver, Sender, Stream};
use super::{Status, code};
use crate::base64;
use crate::body::Body;
use crate::coverage::Covered;
use crate::error::BuildResult;
use crate::filter::BuildCx;
use crate::format::FormatCx;
use crate::header_rules::Rules;
use crate::info::StreamShared;
use crate::upstreams::{CallOptions, ClientOptions, HttpClient};
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::config::core::v3::grpc_service::TargetSpecifier;
use nuncio_wire::{HeaderMap, RequestHead, Version, name};
use std::sync::Arc;
use std::time::Duration;

/// What is read of `GrpcService`.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.GrpcService",
        &["envoy_grpc", "google_grpc", "timeout", "initial_metadata", "retry_policy"],
    ),
    Covered::new(
        "envoy.config.core.v3.GrpcService.EnvoyGrpc",
        &["cluster_name", "authority", "retry_policy", "max_receive_message_length", "skip_envoy_headers"],
    ),
];

/// Longest message that is taken when the configuration sets no limit, in bytes. Envoy has none; a peer must not grow us at will.
const LIMIT: u32 = 256 << 20;

/// A client of one service, for main and workers.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: Arc<dyn HttpClient>,
    /// What is different for `google_grpc`.
    channel: Option<Arc<Channel>>,
    authority: String,
    timeout: Option<Duration>,
    limit: u32,
    metadata: Rules,
    /// The same without formats: for calls that no stream stands behind.
    plain_metadata: Vec<(String, Vec<u8>)>,
    /// Some of it has bytes for values.
    has_binary: bool,
}

impl Client {
    /// Builds a client.
    ///
    /// # Errors
    /// The configuration is refused. A cluster that does not exist is no error: it may come.
    pub fn new(s: &core::GrpcService, cx: &BuildCx<'_>) -> BuildResult<Client> {
        let (http, channel, authority, limit) = match &s.target_specifier {
            Some(TargetSpecifier::EnvoyGrpc(e)) => {
                let options = ClientOptions {
                    retry_policy: s.retry_policy.as_deref().or(e.retry_policy.as_deref()),
                    envoy_headers: !e.skip_envoy_headers,
                    ..ClientOptions::new(&e.cluster_name)
                };
                let authority =
                    if e.authority.is_empty() { e.cluster_name.clone() } else { e.authority.clone() };
                let limit = e.max_receive_message_length.filter(|l| *l > 0).unwrap_or(LIMIT);
                (cx.server.http_client(&options, cx)?, None, authority, limit)
            }
            Some(TargetSpecifier::GoogleGrpc(g)) => {
                google::check_metadata(&s.initial_metadata)?;
                let (channel, cluster) = google::channel(g, cx)?;
                let (authority, limit) = (channel.authority.clone(), channel.receive.min(LIMIT));
                (cx.server.own_client(cluster, cx)?, Some(Arc::new(channel)), authority, limit)
            }
            None => return Err("GrpcServiceValidationError.TargetSpecifier: value is required".into()),
        };
        let options_of = |h: &core::HeaderValue| core::HeaderValueOption {
            header: Some(h.clone()),
            append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..Default::default()
        };
        let metadata: Vec<_> = s.initial_metadata.iter().map(options_of).collect();
        let raw = |h: &core::HeaderValue| match h.raw_value.is_empty() {
            true => (h.key.clone(), h.value.clone().into_bytes()),
            false => (h.key.clone(), h.raw_value.to_vec()),
        };
        Ok(Client(Arc::new(Inner {
            http,
            channel,
            authority,
            timeout: s.timeout.and_then(|d| Duration::try_from(d).ok()).filter(|d| !d.is_zero()),
            limit,
            metadata: Rules::new(&metadata, &[])?,
            plain_metadata: s.initial_metadata.iter().map(raw).collect(),
            has_binary: s.initial_metadata.iter().any(|h| h.key.ends_with(BINARY)),
        })))
    }
    /// Name of the cluster that is called.
    pub fn cluster(&self) -> &str {
        self.0.http.cluster()
    }
    /// What is called, for the log: the cluster, or the target of `google_grpc`.
    pub fn destination(&self) -> &str {
        self.0.channel.as_ref().map_or_else(|| self.cluster(), |c| &c.uri)
    }
    /// `GrpcService.timeout`
    pub fn timeout(&self) -> Option<Duration> {
        self.0.timeout
    }

    /// Opens a stream to a method, `package.Service/Method`. `behind`: the stream whose facts `initial_metadata` may show.
    pub fn open(&self, method: &str, timeout: Option<Duration>, behind: Option<&StreamShared>) -> Stream {
        let channel = self.0.channel.clone();
        let (sender, body) = Sender::new(channel.as_ref().map(|c| (c.buffer, c.send)));
        let call = self.0.http.call(self.head(method, timeout, behind), body, CallOptions { timeout });
        Stream { sender, receiver: Receiver::new(call, self.0.limit, channel) }
    }
    /// One request, one response. It takes no longer than `timeout`.
    ///
    /// # Errors
    /// The status, when it is not OK or no response came with it.
    pub async fn unary<R: prost::Message + Default>(
        &self,
        method: &str,
        request: &impl prost::Message,
        timeout: Option<Duration>,
        behind: Option<&StreamShared>,
    ) -> Result<R, Status> {
        let mut body = Vec::with_capacity(frame::HEAD + request.encoded_len());
        let len = u32::try_from(request.encoded_len()).map_err(|_| Status::new(code::INTERNAL, ""))?;
        if self.0.channel.as_ref().is_some_and(|c| c.send.is_some_and(|most| len > most)) {
            return Err(Status::new(code::RESOURCE_EXHAUSTED, ""));
        }
        body.extend_from_slice(&frame::head(len));
        body.append(&mut request.encode_to_vec());
        let head = self.head(method, timeout, behind);
        let call = self.0.http.call(head, Body::full(body), CallOptions { timeout });
        let mut receiver = Receiver::new(call, self.0.limit, self.0.channel.clone());
        let mut response = None;
        loop {
            match receiver.message().await {
                Ok(m) => {
                    let decoded = R::decode(m).map_err(|_| Status::new(code::INTERNAL, ""))?;
                    response = Some(decoded);
                }
                Err(s) if s.is_ok() => return response.ok_or_else(|| Status::new(code::INTERNAL, "")),
                Err(s) => return Err(s),
            }
        }
    }

    fn head(&self, method: &str, timeout: Option<Duration>, behind: Option<&StreamShared>) -> RequestHead {
        let mut h = HeaderMap::new();
        let path = format!("/{method}");
        match &self.0.channel {
            None => {
                h.append(name::METHOD, b"POST");
                h.append(name::PATH, path.as_bytes());
                h.append(name::AUTHORITY, self.0.authority.as_bytes());
                h.append(name::SCHEME, b"http");
                h.append(name::TE, b"trailers");
                if let Some(t) = timeout {
                    h.append(name::GRPC_TIMEOUT, &timeout_value(t));
                }
                h.append(name::CONTENT_TYPE, b"application/grpc");
            }
            Some(channel) => {
                h.append(name::PATH, path.as_bytes());
                h.append(name::AUTHORITY, self.0.authority.as_bytes());
                h.append(name::METHOD, b"POST");
                h.append(name::SCHEME, if channel.tls { b"https".as_slice() } else { b"http" });
                h.append(name::CONTENT_TYPE, b"application/grpc");
                h.append(name::TE, b"trailers");
                if let Some(t) = timeout {
                    h.append(name::GRPC_TIMEOUT, &timeout_value(t));
                }
                h.append(name::USER_AGENT, channel.agent.as_bytes());
                if let Some(token) = &channel.token {
                    h.append(name::AUTHORIZATION, token.as_bytes());
                }
            }
        }
        match behind {
            Some(sx) if !self.0.metadata.is_empty() => {
                let cx = FormatCx::new(&sx.info, &sx.conn);
                self.0.metadata.make(&h, &cx).apply(&mut h);
            }
            _ => {
                for (key, value) in &self.0.plain_metadata {
                    h.remove(key.as_str());
                    h.append(key.as_str(), value);
                }
            }
        }
        if self.0.has_binary {
            encode_binary(&mut h);
        }
        RequestHead { headers: h, version: Version::Http2 }
    }
}

/// What the names of metadata end with whose values are bytes; on the wire these are base64 (gRPC over HTTP/2,
/// "Custom-Metadata").
const BINARY: &str = "-bin";

fn encode_binary(h: &mut HeaderMap) {
    let binary = |name: &[u8], value: &[u8]| {
        let name = std::str::from_utf8(name).ok().filter(|n| n.ends_with(BINARY))?;
        Some((name.to_owned(), base64::encode(value)))
    };
    let all: Vec<_> = h.iter().filter_map(|h| binary(h.name, h.value)).collect();
    for (name, value) in &all {
        h.remove(name.as_str());
        h.append(name.as_str(), value.as_bytes());
    }
}

/// `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests"), in Envoy's choice of units.
fn timeout_value(t: Duration) -> Vec<u8> {
    const MOST: u128 = 99_999_999;
    let ms = t.as_millis();
    let (n, unit) = match ms {
        0..=MOST => (ms, 'm'),
        _ if ms / 1000 <= MOST => (ms / 1000, 'S'),
        _ if ms / 60_000 <= MOST => (ms / 60_000, 'M'),
        _ => ((ms / 3_600_000).min(MOST), 'H'),
    };
    format!("{n}{unit}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_bytes_is_base64() {
        let mut h = HeaderMap::new();
        for (name, value) in [("a-bin", "a"), ("b", "b"), ("c-bin", "\u{1}\u{2}\u{3}")] {
            h.append(name, value.as_bytes());
        }
        encode_binary(&mut h);
        let get = |name| h.get(name).map(String::from_utf8_lossy);
        assert_eq!(get("a-bin").as_deref(), Some("YQ=="));
        assert_eq!(get("b").as_deref(), Some("b"));
        assert_eq!(get("c-bin").as_deref(), Some("AQID"));
    }
}
