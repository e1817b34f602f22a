//! What a control plane should never do, for tests of those who must bear it.

use crate::kinds::{KINDS, Kind};
use nuncio_api::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use prost::Message;

/// Nonce and version of responses that are faults.
pub(crate) const NONCE: &str = "fault";

/// Done at once on every stream that was asked for anything.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Half of a message, and nothing ever after on this stream.
    Hang,
    /// A message that is no response.
    Garbage,
    /// A response of this kind with a resource of another one.
    WrongType(&'static Kind),
    /// A response of this kind with one resource of about so many bytes, which cannot be decoded.
    Huge(&'static Kind, usize),
    /// A response of this kind with so many resources of one byte each, which is the begin of nothing.
    Crumbs(&'static Kind, usize),
    /// The stream ends with this gRPC status.
    End(u32),
    /// The connection is cut.
    Cut,
}

impl Fault {
    /// A response that does it; none for faults that are no response.
    pub fn response(&self, delta: bool) -> Option<Vec<u8>> {
        let other = |k: &Kind| KINDS.iter().find(|o| *o != k).map(Kind::url).unwrap_or_default();
        Some(match self {
            Fault::Garbage => vec![0xff; 64],
            Fault::WrongType(kind) => encode(kind, vec![any(other(kind), b"\x0a\x01x".to_vec())], delta),
            Fault::Huge(kind, size) => {
                let mut value = b"\x0a\x04huge".to_vec();
                // Field 1000, which nothing has.
                prost::encoding::bytes::encode(1000, &vec![b'x'; *size], &mut value);
                // Wire type 7, which nothing is.
                value.push(7);
                encode(kind, vec![any(kind.url(), value)], delta)
            }
            Fault::Crumbs(kind, n) => encode(kind, vec![any(kind.url(), vec![0x0a]); *n], delta),
            Fault::Hang | Fault::End(_) | Fault::Cut => return None,
        })
    }
}

fn any(type_url: String, value: Vec<u8>) -> prost_types::Any {
    prost_types::Any { type_url, value }
}

fn encode(kind: &Kind, resources: Vec<prost_types::Any>, delta: bool) -> Vec<u8> {
    let (version, nonce, type_url) = (NONCE.to_owned(), NONCE.to_owned(), kind.url());
    match delta {
        false => {
            let r =
                DiscoveryResponse { version_info: version, resources, type_url, nonce, ..Default::default() };
            r.encode_to_vec()
        }
        true => {
            let wrapped = |(i, any)| Resource {
                name: format!("fault{i}"),
                version: version.clone(),
                resource: Some(any),
                ..Default::default()
            };
            let resources = resources.into_iter().enumerate().map(wrapped).collect();
            DeltaDiscoveryResponse {
                system_version_info: version.clone(),
                resources,
                type_url,
                nonce,
                ..Default::default()
            }
            .encode_to_vec()
        }
    }
}
