//! Small conversions from protos that several builders share.

use nuncio_api::envoy::config::core::v3 as core;
use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::metadata::Metadata;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A duration field; negative ones are refused in Envoy's words.
///
/// # Errors
/// The duration is negative.
pub fn duration(d: &Option<prost_types::Duration>) -> BuildResult<Option<Duration>> {
    let Some(d) = d else { return Ok(None) };
    let (Ok(secs), Ok(nanos)) = (u64::try_from(d.seconds), u32::try_from(d.nanos)) else {
        return Err(BuildError(format!(
            "Invalid duration: Expected positive duration: seconds: {}",
            d.seconds
        )));
    };
    Ok(Some(Duration::new(secs, nanos)))
}
/// A duration field with a default.
///
/// # Errors
/// As [`duration`].
pub fn duration_or(d: &Option<prost_types::Duration>, default: Duration) -> BuildResult<Duration> {
    Ok(duration(d)?.unwrap_or(default))
}
/// A wrapper with a default.
pub fn positive(v: Option<u32>, default: u32) -> u32 {
    v.unwrap_or(default)
}
/// Metadata from its proto.
pub fn metadata(m: Option<&core::Metadata>) -> Metadata {
    Metadata(m.map(|m| m.filter_metadata.clone().into_iter().collect()).unwrap_or_default())
}
/// What a `DataSource` holds; files are read here.
///
/// # Errors
/// There is no such file or variable.
pub fn data_source(d: &core::DataSource) -> BuildResult<Vec<u8>> {
    use core::data_source::Specifier as S;
    Ok(match &d.specifier {
        None => vec![],
        Some(S::InlineString(s)) => s.clone().into_bytes(),
        Some(S::InlineBytes(b)) => b.to_vec(),
        Some(S::Filename(f)) => std::fs::read(f).map_err(|_| BuildError(format!("Invalid path: {f}")))?,
        Some(S::EnvironmentVariable(v)) => std::env::var(v)
            .map_err(|_| BuildError(format!("Environment variable doesn't exist: {v}")))?
            .into_bytes(),
    })
}

/// What each element becomes, without room to spare: of most lists in a configuration there are thousands.
///
/// # Errors
/// The first of an element.
pub fn each<T, U>(list: &[T], make: impl FnMut(&T) -> BuildResult<U>) -> BuildResult<Box<[U]>> {
    let mut made = Vec::with_capacity(list.len());
    for m in list.iter().map(make) {
        made.push(m?);
    }
    Ok(made.into())
}

/// An address that must be an IP address or a path already.
///
/// # Errors
/// It is a name, or of a kind we have not built.
pub fn address(a: &core::Address) -> BuildResult<Address> {
    use core::address::Address as A;
    match &a.address {
        Some(A::SocketAddress(s)) => {
            let ip: IpAddr =
                s.address.parse().map_err(|_| BuildError(format!("malformed IP address: {}", s.address)))?;
            Ok(Address::Ip(SocketAddr::new(ip, port(s)?)))
        }
        Some(A::Pipe(p)) => {
            // As large as `sun_path`, which ends with NUL unless the name is abstract.
            const MOST: usize = 108;
            if p.path.len() > MOST - usize::from(!p.path.starts_with('@')) {
                return Err(BuildError(format!(
                    "Path \"{}\" exceeds maximum UNIX domain socket path size of {MOST}.",
                    p.path
                )));
            }
            Ok(Address::Pipe(Arc::new(p.path.clone().into())))
        }
        Some(A::EnvoyInternalAddress(_)) => {
            Err(BuildError::not_implemented("Address.envoy_internal_address"))
        }
        None => Err("Address must be set".into()),
    }
}
/// The port of a socket address.
///
/// # Errors
/// It is named, or larger than 65,535.
pub fn port(s: &core::SocketAddress) -> BuildResult<u16> {
    use core::socket_address::PortSpecifier as P;
    match &s.port_specifier {
        Some(P::PortValue(p)) => {
            u16::try_from(*p).map_err(|_| "value must be less than or equal to 65535".into())
        }
        Some(P::NamedPort(_)) => Err(BuildError::not_implemented("SocketAddress.named_port")),
        None => Ok(0),
    }
}

/// Decodes the message in an `Any`; the configuration engine has encoded and checked it.
///
/// # Errors
/// The bytes are not of that message.
pub fn unpack<M: prost::Message + Default>(any: &prost_types::Any) -> BuildResult<M> {
    M::decode(&any.value[..]).map_err(|e| BuildError(e.to_string()))
}
