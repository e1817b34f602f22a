//! Checks by an HTTP request (`HealthCheck.HttpHealthCheck`).

use super::HealthCheckStats;
use super::conn::Answer;
use super::payload::{self, Expected};
use super::state::Failure;
use crate::upstream::health::HostHealth;
use crate::upstream::host::Host;
use bytes::Bytes;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::r#type::v3 as types;
use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::format::FormatCx;
use nuncio_core::header_rules::Rules;
use nuncio_core::info::{ConnInfo, ListenerInfo, StreamShared};
use nuncio_core::matchers::StringMatcher;
use nuncio_core::runtime::{Runtime, RuntimeNumber};
use nuncio_wire::{RequestHead, Version, name};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// What a check says.
pub type Outcome = Result<Passed, (Failure, bool)>;

/// A check was passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    /// The host said that it is degraded.
    pub degraded: bool,
}

/// `HttpHealthCheck`
pub struct Http {
    /// `host`
    pub host: String,
    path: String,
    method: &'static str,
    /// `send`
    pub send: Bytes,
    receive: Expected,
    /// `response_buffer_size`: of a body so much is looked at.
    buffer: usize,
    rules: Rules,
    expected: Vec<Range<i64>>,
    retriable: Vec<Range<i64>>,
    /// `codec_client_type: HTTP2`
    pub http2: bool,
    service_name: Option<StringMatcher>,
    /// Runtime key `health_check.verify_cluster`, in percent.
    verify: RuntimeNumber,
}

/// Of a body without a limit so much is looked at.
const MOST: usize = 16 << 20;

impl Http {
    /// Reads the message.
    ///
    /// # Errors
    /// It is refused.
    pub fn new(c: &core::health_check::HttpHealthCheck, runtime: &Runtime) -> BuildResult<Http> {
        let method = match core::RequestMethod::try_from(c.method) {
            Ok(core::RequestMethod::MethodUnspecified) => "GET",
            Ok(m) => m.as_str_name(),
            Err(_) => return Err("unknown method".into()),
        };
        if c.send.is_some() && matches!(method, "GET" | "HEAD" | "DELETE" | "TRACE") {
            return Err(BuildError(format!(
                "HTTP health check cannot specify a request payload with method '{method}'. Only methods that \
                 support a request body (POST, PUT, PATCH, OPTIONS) can be used with payload."
            )));
        }
        let receive = Expected::new(&c.receive)?;
        let buffer = c.response_buffer_size.unwrap_or(1024);
        if buffer != 0 && receive.len() as u64 > buffer {
            return Err(BuildError(format!(
                "The expected response length '{}' is over than http health response buffer size '{buffer}'",
                receive.len()
            )));
        }
        let mut expected = ranges(&c.expected_statuses, "expected")?;
        if expected.is_empty() {
            expected.push(200..201);
        }
        Ok(Http {
            host: c.host.clone(),
            path: c.path.clone(),
            method,
            send: c.send.as_ref().map(payload::bytes).transpose()?.unwrap_or_default().into(),
            receive,
            buffer: if buffer == 0 { MOST } else { usize::try_from(buffer).unwrap_or(MOST).min(MOST) },
            rules: Rules::new(&c.request_headers_to_add, &c.request_headers_to_remove)?,
            expected,
            retriable: ranges(&c.retriable_statuses, "retriable")?,
            http2: match types::CodecClientType::try_from(c.codec_client_type) {
                Ok(types::CodecClientType::Http1) => false,
                Ok(types::CodecClientType::Http2) => true,
                _ => return Err(BuildError::not_implemented("HttpHealthCheck.codec_client_type: HTTP3")),
            },
            service_name: c.service_name_matcher.as_ref().map(StringMatcher::new).transpose()?,
            verify: runtime.number("health_check.verify_cluster", 100),
        })
    }
    /// How much of a body is kept.
    pub fn keep(&self) -> usize {
        if self.receive.is_empty() { 0 } else { self.buffer }
    }
    /// The request.
    pub fn request(&self, host: &Host, authority: &str, tls: bool) -> RequestHead {
        let version = if self.http2 { Version::Http2 } else { Version::Http11 };
        let mut head = RequestHead { version, ..Default::default() };
        let h = &mut head.headers;
        h.set(name::METHOD, self.method.as_bytes());
        h.set(name::AUTHORITY, authority.as_bytes());
        h.set(name::PATH, self.path.as_bytes());
        h.set(name::SCHEME, if tls { b"https" } else { b"http" });
        h.set(name::USER_AGENT, super::checker::USER_AGENT);
        apply(&self.rules, &mut head, host, version);
        if !self.send.is_empty() {
            head.headers.set(name::CONTENT_LENGTH, self.send.len().to_string().as_bytes());
        }
        head
    }
    /// What the answer says.
    pub fn judge(&self, a: &Answer, host: &HostHealth, stats: &HealthCheckStats) -> Outcome {
        let failed = |retriable| {
            if a.head.headers.contains(name::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL) {
                host.set(HostHealth::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
            }
            Err((Failure::Active(a.head.status), retriable))
        };
        let status = i64::from(a.head.status);
        let is_in = |ranges: &[Range<i64>]| ranges.iter().any(|r| r.contains(&status));
        if !self.receive.is_in(&a.body) {
            return failed(false);
        }
        if !is_in(&self.expected) {
            return failed(is_in(&self.retriable));
        }
        if let Some(m) = self.service_name.as_ref().filter(|_| self.verify.percent()) {
            stats.verify_cluster().inc();
            let cluster = a.head.headers.get(name::X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER);
            if !m.matches(cluster.unwrap_or_default()) {
                return Err((Failure::Active(a.head.status), false));
            }
        }
        Ok(Passed { degraded: a.head.headers.contains(name::X_ENVOY_DEGRADED) })
    }
}

/// Applies header rules to a request that no client has sent.
pub fn apply(rules: &Rules, head: &mut RequestHead, host: &Host, version: Version) {
    if rules.is_empty() {
        return;
    }
    let nowhere = Address::Internal("self".into(), "".into());
    let conn = ConnInfo::new(0, Arc::new(ListenerInfo::default()), nowhere.clone(), nowhere);
    let sx = StreamShared::new(Rc::new(conn), None);
    sx.info.protocol.set(Some(version));
    sx.info.upstream.borrow_mut().host = Some(host.info.clone());
    rules.remove_from(&mut head.headers);
    let cx = FormatCx { request: Some(&head.headers), ..FormatCx::new(&sx.info, &sx.conn) };
    let made = rules.make(&head.headers, &cx);
    made.apply(&mut head.headers);
}

fn ranges(all: &[types::Int64Range], what: &str) -> BuildResult<Vec<Range<i64>>> {
    let one = |r: &types::Int64Range| {
        let (start, end) = (r.start, r.end);
        let problem = match () {
            () if start >= end => {
                format!("expecting start < end, but found start={start} and end={end}")
            }
            () if start < 100 => format!("expecting start >= 100, but found start={start}"),
            () if end > 600 => format!("expecting end <= 600, but found end={end}"),
            () => return Ok(start..end),
        };
        Err(BuildError(format!("Invalid http {what} status range: {problem}")))
    };
    all.iter().map(one).collect()
}
