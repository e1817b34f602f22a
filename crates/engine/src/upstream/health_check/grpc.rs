//! Checks by `grpc.health.v1.Health` (`HealthCheck.GrpcHealthCheck`).

use super::conn::Answer;
use super::http::{Outcome, Passed, apply};
use super::state::Failure;
use crate::upstream::host::Host;
use nuncio_api::envoy::config::core::v3::health_check as pb;
use nuncio_core::error::BuildResult;
use nuncio_core::header_rules::Rules;
use nuncio_wire::{RequestHead, ResponseHead, Version, name};
use prost::Message;
use std::time::Duration;

/// `GrpcHealthCheck`
pub struct Grpc {
    service: String,
    /// `authority`
    pub authority: String,
    rules: Rules,
}

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; 1 is SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// So much of an answer is looked at: one message of one number.
pub const MOST: usize = 4096;

impl Grpc {
    /// Reads the message.
    ///
    /// # Errors
    /// A bad header.
    pub fn new(c: &pb::GrpcHealthCheck) -> BuildResult<Grpc> {
        let rules = Rules::new(&c.initial_metadata, &[])?;
        Ok(Grpc { service: c.service_name.clone(), authority: c.authority.clone(), rules })
    }
    /// The request's head.
    pub fn request(&self, host: &Host, authority: &str, tls: bool, timeout: Duration) -> RequestHead {
        let mut head = RequestHead { version: Version::Http2, ..Default::default() };
        let h = &mut head.headers;
        h.set(name::METHOD, b"POST");
        h.set(name::PATH, b"/grpc.health.v1.Health/Check");
        h.set(name::AUTHORITY, authority.as_bytes());
        h.set(name::SCHEME, if tls { b"https" } else { b"http" });
        h.set(name::TE, b"trailers");
        h.set(name::CONTENT_TYPE, b"application/grpc");
        h.set(name::USER_AGENT, super::checker::USER_AGENT);
        apply(&self.rules, &mut head, host, Version::Http2);
        head.headers.set(name::GRPC_TIMEOUT, grpc_timeout(timeout).as_bytes());
        head
    }
    /// The request's body: one message.
    pub fn body(&self) -> Vec<u8> {
        let message = HealthCheckRequest { service: self.service.clone() }.encode_to_vec();
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(&message);
        body
    }
    /// What the answer says: served only with status 200, one message that says so, and `grpc-status: 0`.
    pub fn judge(&self, a: &Answer) -> Outcome {
        let ok = || {
            let trailers = a.trailers.as_deref()?;
            let served = HealthCheckResponse::decode(message(&a.body)?).ok()?.status == SERVING;
            let status = trailers.get(name::GRPC_STATUS)? == b"0";
            (!enough(&a.head, false) && served && status).then_some(Passed { degraded: false })
        };
        ok().ok_or((Failure::Active(0), false))
    }
}

/// A head that does not begin an answer of gRPC is all that is wanted.
pub fn enough(head: &ResponseHead, _end: bool) -> bool {
    head.status != 200 || !head.is_grpc()
}

/// The one message of a body that is not empty.
fn message(mut body: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    while let Some((prefix, rest)) = body.split_first_chunk::<5>() {
        let [flags, length @ ..] = *prefix;
        let (message, after) = rest.split_at_checked(u32::from_be_bytes(length) as usize)?;
        if !message.is_empty() {
            if flags != 0 || found.is_some() {
                return None;
            }
            found = Some(message);
        }
        body = after;
    }
    body.is_empty().then_some(found).flatten()
}

/// `grpc-timeout`: at most eight digits, in the smallest unit that is not below a millisecond.
fn grpc_timeout(t: Duration) -> String {
    let most = 99_999_999;
    let mut n = t.as_millis();
    for (unit, next) in [('m', 1000), ('S', 60), ('M', 60)] {
        if n <= most {
            return format!("{n}{unit}");
        }
        n /= next;
    }
    format!("{}H", n.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units() {
        let text = |s| grpc_timeout(Duration::from_secs(s));
        assert_eq!(
            (text(1), text(99_999), text(100_000)),
            ("1000m".into(), "99999000m".into(), "100000S".into())
        );
    }

    #[test]
    fn bodies_hold_one_message() {
        assert_eq!(message(&[0, 0, 0, 0, 2, 8, 1]), Some(&[8, 1][..]));
        assert_eq!(message(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 8, 1]), Some(&[8, 1][..]));
        for bad in [&[][..], &[0, 0, 0, 0, 2, 8], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 0], &[0, 0]] {
            assert_eq!(message(bad), None, "{bad:?}");
        }
    }
}
