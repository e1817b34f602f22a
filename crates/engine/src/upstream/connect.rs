//! Making a connection to a host: TCP or Unix, then TLS when the cluster asks for it, within `connect_timeout`.

use super::cluster::ClusterPlan;
use super::host::{Host, HostCounters};
use super::transport::{Transport, TransportOptions};
use crate::io::Io;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_core::LocalBoxFuture;
use nuncio_core::address::Address;
use nuncio_core::clock::{self, TimerKind};
use nuncio_core::error::{BuildError, BuildResult, ResetReason, StreamError};
use nuncio_core::info::HostInfo;
use nuncio_core::stats::Counter;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpSocket, UnixStream};

/// Connects to `host` to speak `alpn`, or anything; `options` is what the request asks of the connection.
///
/// # Errors
/// Envoy's reason with the transport's own words.
pub async fn connect(
    plan: &ClusterPlan,
    host: &Host,
    alpn: &str,
    options: Option<&TransportOptions>,
) -> Result<Io, StreamError> {
    match clock::timeout(TimerKind::Other, plan.connect_timeout, establish(plan, host, alpn, options)).await {
        Ok(r) => r,
        Err(_) => {
            plan.stats.upstream_cx_connect_timeout().inc();
            Err(ResetReason::ConnectionTimeout.into())
        }
    }
}

/// Connects to `address` on our own account (a check of a host), over `transport`, to speak `alpn`, or anything. Whoever asks limits how long that may take.
///
/// # Errors
/// As of [`connect`].
pub async fn connect_to(
    plan: &ClusterPlan,
    transport: &Transport,
    address: &Address,
    info: &HostInfo,
    alpn: &str,
) -> Result<Io, StreamError> {
    let io = open_address(address, &Source::of(plan)).await.map_err(|e| failure(&e))?;
    secure(plan, transport, io, info, alpn, None).await
}

async fn establish(
    plan: &ClusterPlan,
    host: &Host,
    alpn: &str,
    options: Option<&TransportOptions>,
) -> Result<Io, StreamError> {
    let io = open(host, plan).await.map_err(|e| failure(&e))?;
    secure(plan, plan.transports.of(&host.info), io, &host.info, alpn, options).await
}

async fn secure(
    plan: &ClusterPlan,
    mut transport: &Transport,
    mut io: Io,
    info: &HostInfo,
    alpn: &str,
    options: Option<&TransportOptions>,
) -> Result<Io, StreamError> {
    if let Some(k) = &plan.keepalive {
        io.set_keepalive(k).map_err(|e| failure(&e))?;
    }
    while let Transport::Proxy(proxy) = transport {
        let addresses = options.and_then(|o| o.addresses.as_deref());
        proxy.0.send(&mut io, addresses).await.map_err(|e| failure(&e))?;
        transport = &proxy.1;
    }
    match transport {
        Transport::Raw | Transport::Proxy(_) => Ok(io),
        Transport::Tls(tls) => tls.connect(io, info, alpn, options).await.map_err(|text| StreamError {
            reason: ResetReason::RemoteConnectionFailure,
            transport: text.into(),
        }),
    }
}

async fn open(host: &Host, plan: &ClusterPlan) -> io::Result<Io> {
    let from = Source::of(plan);
    match (&host.info.address, &host.others[..]) {
        (None, _) => Err(io::ErrorKind::AddrNotAvailable.into()),
        (Some(only), []) => open_address(only, &from).await,
        (Some(first), others) => {
            let sorted = plan.eyeballs.sorted(first, others);
            let again = || {
                plan.stats.upstream_cx_total().inc();
                HostCounters::inc(&host.counters.cx_total);
            };
            open_one_of(sorted, &from, again).await
        }
    }
}

/// Where connections come from (`upstream_bind_config`).
struct Source<'a> {
    address: Option<SocketAddr>,
    bind_errors: Counter<'a>,
}

impl<'a> Source<'a> {
    fn of(plan: &'a ClusterPlan) -> Source<'a> {
        Source { address: plan.source, bind_errors: plan.stats.bind_errors() }
    }
    fn bind(&self, s: &TcpSocket, to: SocketAddr) -> io::Result<()> {
        match self.address {
            Some(own) if own.is_ipv4() == to.is_ipv4() => {
                s.set_reuseaddr(own.port() != 0)?;
                s.bind(own).inspect_err(|_| self.bind_errors.inc())
            }
            _ => Ok(()),
        }
    }
}

/// How long one address of several may take before the next is tried beside it (RFC 8305 section 5, Envoy's value).
const NEXT_ADDRESS: Duration = Duration::from_millis(300);

/// The first connection that comes about to one of the addresses; `again` is called for each but the first that is tried.
async fn open_one_of(addresses: Vec<&Address>, from: &Source<'_>, again: impl Fn()) -> io::Result<Io> {
    let mut tried = 0;
    let mut rest = addresses.into_iter();
    let mut running: Vec<LocalBoxFuture<'_, io::Result<Io>>> = vec![];
    let mut last: io::Error = io::ErrorKind::AddrNotAvailable.into();
    loop {
        match rest.next() {
            Some(a) => {
                if tried > 0 {
                    again();
                }
                tried += 1;
                running.push(Box::pin(open_address(a, from)));
            }
            None if running.is_empty() => return Err(last),
            None => {}
        }
        let first = poll_fn(|cx| {
            for i in 0..running.len() {
                if let Poll::Ready(r) = running[i].as_mut().poll(cx) {
                    drop(running.swap_remove(i));
                    return Poll::Ready(r);
                }
            }
            Poll::Pending
        });
        let done = match rest.len() {
            0 => first.await,
            _ => match clock::timeout(TimerKind::Other, NEXT_ADDRESS, first).await {
                Ok(done) => done,
                Err(_) => continue,
            },
        };
        match done {
            Ok(io) => return Ok(io),
            Err(e) => last = e,
        }
    }
}

/// `UpstreamConnectionOptions.HappyEyeballsConfig`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eyeballs {
    /// IPv6 first, or IPv4; `None`: as the first address.
    v6_first: Option<bool>,
    /// So many of the first family come before each of the other.
    count: usize,
}

impl Default for Eyeballs {
    fn default() -> Eyeballs {
        Eyeballs { v6_first: None, count: 1 }
    }
}

impl Eyeballs {
    /// Of a cluster.
    ///
    /// # Errors
    /// What comes first is no family of IP addresses.
    pub fn new(o: Option<&pb::UpstreamConnectionOptions>) -> BuildResult<Eyeballs> {
        use pb::upstream_connection_options::FirstAddressFamilyVersion as V;
        let Some(c) = o.and_then(|o| o.happy_eyeballs_config.as_ref()) else {
            return Ok(Eyeballs::default());
        };
        Ok(Eyeballs {
            v6_first: match c.first_address_family_version() {
                V::Default => None,
                V::V4 => Some(false),
                V::V6 => Some(true),
                V::Pipe | V::Internal => {
                    return Err(BuildError::not_implemented(
                        "HappyEyeballsConfig.first_address_family_version: PIPE, INTERNAL",
                    ));
                }
            },
            count: c.first_address_family_count.unwrap_or(1).max(1) as usize,
        })
    }
    /// The addresses in turn of their families (RFC 8305 section 4).
    fn sorted<'a>(&self, first: &'a Address, others: &'a [Address]) -> Vec<&'a Address> {
        let v6 = |a: &&Address| matches!(a, Address::Ip(ip) if ip.is_ipv6());
        let all = || std::iter::once(first).chain(others);
        let wanted = self.v6_first.unwrap_or(v6(&first));
        let mut mine = all().filter(|a| v6(a) == wanted);
        let mut theirs = all().filter(|a| v6(a) != wanted);
        let mut sorted = vec![];
        loop {
            let before = sorted.len();
            sorted.extend(mine.by_ref().take(self.count));
            sorted.extend(theirs.next());
            if sorted.len() == before {
                return sorted;
            }
        }
    }
}

async fn open_address(address: &Address, from: &Source<'_>) -> io::Result<Io> {
    match address {
        Address::Ip(a) => {
            #[cfg(test)]
            if let Some(simulated) = super::simulation::net::open(*a).await {
                return simulated;
            }
            let s = if a.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            s.set_nodelay(true)?;
            from.bind(&s, *a)?;
            Ok(Io::Tcp(s.connect(*a).await?))
        }
        // `@name` is a name in Linux's abstract namespace.
        Address::Pipe(p) => Ok(Io::Unix(match p.to_string_lossy().strip_prefix('@') {
            Some(name) => UnixStream::connect(format!("\0{name}")).await?,
            None => UnixStream::connect(&**p).await?,
        })),
        Address::Internal(..) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// `delayed connect error: Connection refused`: the system's words without Rust's error number.
fn failure(e: &io::Error) -> StreamError {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    StreamError {
        reason: ResetReason::RemoteConnectionFailure,
        transport: format!("delayed connect error: {text}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::ClusterStats;
    use nuncio_core::stats::Store;

    fn ip(a: &str) -> Address {
        a.parse::<SocketAddr>().expect("an address").into()
    }

    #[test]
    fn families_take_turns() {
        let (first, others) =
            (ip("[::1]:1"), [ip("[::2]:1"), ip("10.0.0.1:1"), ip("[::3]:1"), ip("10.0.0.2:1")]);
        let sorted = |e: Eyeballs| -> Vec<String> {
            e.sorted(&first, &others).iter().map(ToString::to_string).collect()
        };
        let six = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"];
        assert_eq!(sorted(Eyeballs::default()), six);
        let four = ["10.0.0.1:1", "10.0.0.2:1", "[::1]:1", "[::2]:1", "[::3]:1"];
        assert_eq!(sorted(Eyeballs { v6_first: Some(false), count: 2 }), four);
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let closed =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
        let (closed, open): (Address, Address) =
            (closed.into(), listener.local_addr().expect("it is bound").into());
        let stats = ClusterStats::new(&Store::new().scope("cluster.x"));
        let from = Source { address: None, bind_errors: stats.bind_errors() };
        let again = std::cell::Cell::new(0);
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                assert!(
                    open_one_of(vec![&closed, &open], &from, || again.set(again.get() + 1)).await.is_ok()
                );
                assert_eq!(again.get(), 1);
                let e = open_one_of(vec![&closed, &closed], &from, || ()).await.err().map(|e| e.kind());
                assert_eq!(e, Some(io::ErrorKind::ConnectionRefused));
            })
            .await;
    }
}
