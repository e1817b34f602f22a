//! Services over HTTP: they get the request's head, perhaps its body, and the status of their answer decides.

use auth::check_response::HttpResponse;
use core::http_uri::HttpUpstreamType;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::extensions::filters::http::ext_authz::v3 as pb;
use nuncio_api::envoy::service::auth::v3 as auth;
use nuncio_api::envoy::r#type::matcher::v3::ListStringMatcher as PbList;
use nuncio_api::envoy::r#type::v3::HttpStatus;
use nuncio_api::google::rpc;
use nuncio_core::body::Body;
use nuncio_core::coverage::Covered;
use nuncio_core::filter::BuildCx;
use nuncio_core::format::FormatCx;
use nuncio_core::grpc::{Status, code};
use nuncio_core::header_rules::Rules;
use nuncio_core::matchers::ListStringMatcher;
use nuncio_core::upstreams::{Answer, CallOptions, ClientOptions, HttpClient};
use nuncio_core::{BuildResult, StreamShared, clock};
use nuncio_wire::{HeaderMap, RequestHead, name};
use prost_types::value::Kind;
use std::sync::Arc;
use std::time::Duration;

/// What is read of the messages.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.filters.http.ext_authz.v3.HttpService",
        &["server_uri", "path_prefix", "authorization_request", "authorization_response", "retry_policy"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.ext_authz.v3.AuthorizationRequest",
        &["allowed_headers", "headers_to_add"],
    ),
    Covered::new(
        "envoy.extensions.filters.http.ext_authz.v3.AuthorizationResponse",
        &[
            "allowed_upstream_headers",
            "allowed_upstream_headers_to_append",
            "allowed_client_headers",
            "allowed_client_headers_on_success",
            "dynamic_metadata_from_headers",
        ],
    ),
];

/// Headers that such a service always gets.
pub const ALWAYS: &[&[u8]] = &[b"authorization", b":method", b":path", b":authority"];
/// Names of headers that the request is to lose, in an answer.
const TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";
/// Longest body of an answer, in bytes (Envoy's limit for such calls).
const MOST_BODY: usize = 32 << 20;
/// When a service is asked again, unless the policy says it.
const RETRY_ON: &str = "5xx,gateway-error,connect-failure,reset";

/// A service.
pub struct HttpService {
    client: Arc<dyn HttpClient>,
    timeout: Option<Duration>,
    prefix: String,
    add: Rules,
    to_upstream: ListStringMatcher,
    to_upstream_too: ListStringMatcher,
    /// `None`: all but `host`.
    to_client: Option<ListStringMatcher>,
    to_client_on_success: ListStringMatcher,
    to_metadata: ListStringMatcher,
}

/// What it says, as a service over gRPC would, and headers that the request gets besides those of these names.
pub struct Said {
    /// The answer.
    pub answer: Result<auth::CheckResponse, Status>,
    /// Names and values.
    pub more: Vec<(String, String)>,
}

impl HttpService {
    /// From configuration.
    ///
    /// # Errors
    /// It is refused.
    pub fn new(c: &pb::HttpService, default_timeout: Duration, cx: &BuildCx<'_>) -> BuildResult<HttpService> {
        if !c.path_prefix.is_empty() && !c.path_prefix.starts_with('/') {
            return Err("path_prefix should start with \"/\".".into());
        }
        let uri = c.server_uri.as_ref().ok_or("field: \"server_uri\", reason: is required")?;
        let Some(HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
            return Err("field: \"http_upstream_type\", reason: is required".into());
        };
        let mut retry = c.retry_policy.clone();
        if let Some(r) = retry.as_mut().filter(|r| r.retry_on.is_empty()) {
            r.retry_on = RETRY_ON.into();
        }
        let options = ClientOptions {
            retry_policy: retry.as_deref(),
            forwarded_for: false,
            ..ClientOptions::new(cluster)
        };
        let (asks, says) =
            (c.authorization_request.as_ref(), c.authorization_response.clone().unwrap_or_default());
        let add = asks.map_or(&[][..], |a| &a.headers_to_add).iter().map(|h| core::HeaderValueOption {
            header: Some(h.clone()),
            append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..Default::default()
        });
        let list = |l: Option<&PbList>| ListStringMatcher::new(l.unwrap_or(&PbList::default()));
        Ok(HttpService {
            client: cx.server.http_client(&options, cx)?,
            timeout: Some(crate::config::millis(uri.timeout.as_ref()).unwrap_or(default_timeout))
                .filter(|t| !t.is_zero()),
            prefix: c.path_prefix.clone(),
            add: Rules::new(&add.collect::<Vec<_>>(), &[])?,
            to_upstream: list(says.allowed_upstream_headers.as_ref())?,
            to_upstream_too: list(says.allowed_upstream_headers_to_append.as_ref())?,
            to_client: match says.allowed_client_headers.filter(|l| !l.patterns.is_empty()) {
                Some(l) => Some(ListStringMatcher::new(&l)?),
                None => None,
            },
            to_client_on_success: list(says.allowed_client_headers_on_success.as_ref())?,
            to_metadata: list(says.dynamic_metadata_from_headers.as_ref())?,
        })
    }
    /// Asks.
    pub async fn ask(&self, request: auth::CheckRequest, sx: &StreamShared) -> Said {
        let http = request.attributes.and_then(|a| a.request).and_then(|r| r.http).unwrap_or_default();
        let head = self.head(&http, sx);
        let body = if http.body.is_empty() { http.raw_body.to_vec() } else { http.body.into_bytes() };
        let body = if body.is_empty() { Body::Empty } else { Body::full(body) };
        let (mut more, began) = (vec![], clock::now());
        let answer = match self.client.call(head, body, CallOptions { timeout: self.timeout }).await {
            Ok(mut answer) => {
                // Envoy's calls have it, and so its clients see it.
                let took = clock::now().saturating_duration_since(began).as_millis().to_string();
                answer.head.headers.set(name::X_ENVOY_UPSTREAM_SERVICE_TIME, took.as_bytes());
                self.read(answer, &mut more).await
            }
            Err(_) => None,
        };
        Said { answer: answer.ok_or_else(|| Status::new(code::UNAVAILABLE, "")), more }
    }
    fn head(&self, http: &auth::attribute_context::HttpRequest, sx: &StreamShared) -> RequestHead {
        let length = if http.body.is_empty() { http.raw_body.len() } else { http.body.len() };
        let mut h = HeaderMap::new();
        h.append(name::CONTENT_LENGTH, length.to_string().as_bytes());
        for (k, v) in http.headers.iter().filter(|(k, _)| *k != "content-length") {
            match &**k {
                ":path" => h.append(name::PATH, format!("{}{v}", self.prefix).as_bytes()),
                k => h.append(k, v.as_bytes()),
            }
        }
        if !h.contains(name::SCHEME) {
            h.append(name::SCHEME, b"http");
        }
        if !self.add.is_empty() {
            // Formats see the stream only.
            let nothing = HeaderMap::new();
            let cx = FormatCx { request: None, ..crate::config::request_cx(&nothing, sx, None) };
            let made = self.add.make(&h, &cx);
            made.apply(&mut h);
        }
        RequestHead { headers: h, ..Default::default() }
    }
    /// The answer; `None` when it is a failure.
    async fn read(
        &self,
        mut answer: Answer,
        more: &mut Vec<(String, String)>,
    ) -> Option<auth::CheckResponse> {
        let status = answer.head.status;
        // Also that of a failure, so that its connection can be used again.
        answer.body.buffer(MOST_BODY, &answer.sx).await.ok()?;
        if (500..600).contains(&status) {
            return None;
        }
        let mut metadata = prost_types::Struct::default();
        let mut said = auth::CheckResponse::default();
        let (mut ok, mut denied) = (auth::OkHttpResponse::default(), auth::DeniedHttpResponse::default());
        for h in answer.head.headers.iter() {
            let key = String::from_utf8_lossy(h.name).to_ascii_lowercase();
            let value = String::from_utf8_lossy(h.value).into_owned();
            let is = |l: &ListStringMatcher| l.matches(key.as_bytes());
            if key == TO_REMOVE {
                let names = value.split(',').map(str::trim).filter(|n| !n.is_empty());
                ok.headers_to_remove.extend(names.map(str::to_owned));
                continue;
            }
            if is(&self.to_metadata) {
                let value = prost_types::Value { kind: Some(Kind::StringValue(value.clone())) };
                metadata.fields.insert(key.clone(), value);
            }
            if status != 200 {
                if self.client_gets(&key) {
                    denied.headers.push(option(&key, &value, false));
                }
                continue;
            }
            if is(&self.to_upstream) {
                ok.headers.push(option(&key, &value, false));
            }
            if is(&self.to_upstream_too) {
                more.push((key.clone(), value.clone()));
            }
            if is(&self.to_client_on_success) {
                ok.response_headers_to_add.push(option(&key, &value, true));
            }
        }
        said.dynamic_metadata = Some(metadata);
        if status == 200 {
            said.http_response = Some(HttpResponse::OkResponse(Box::new(ok)));
            return Some(said);
        }
        if let Body::Full(c) = answer.body.take() {
            denied.body = String::from_utf8_lossy(&c).into_owned();
        }
        denied.status = Some(HttpStatus { code: status.into() });
        const PERMISSION_DENIED: i32 = 7;
        said.status = Some(rpc::Status { code: PERMISSION_DENIED, ..Default::default() });
        said.http_response = Some(HttpResponse::DeniedResponse(denied));
        Some(said)
    }
    /// Whether a header of a refusal is for the client.
    fn client_gets(&self, key: &str) -> bool {
        match (&self.to_client, key) {
            (None, "host") => false,
            (None, _) | (_, "content-length" | "www-authenticate" | "location") => true,
            (Some(l), _) => l.matches(key.as_bytes()),
        }
    }
}

fn option(key: &str, value: &str, append: bool) -> core::HeaderValueOption {
    let header = core::HeaderValue { key: key.into(), value: value.into(), ..Default::default() };
    core::HeaderValueOption { header: Some(header), append: Some(append), ..Default::default() }
}
