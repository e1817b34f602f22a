//! Resolving names for clusters, on main.

use crate::proto;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What is read of resolver configurations.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        &["resolvers", "use_resolvers_as_fallback", "dns_resolver_options"],
    ),
    Covered::new(
        "envoy.config.core.v3.DnsResolverOptions",
        &["use_tcp_for_dns_lookups", "no_default_search_domain"],
    ),
    Covered::new("envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig", &[]),
];

/// `Cluster.dns_lookup_family`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// IPv6, and IPv4 when there is none.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4, and IPv6 when there is none.
    V4Preferred,
    /// Both.
    All,
}

/// How a cluster's names are resolved.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// Which addresses are wanted.
    pub family: Family,
    /// `dns_refresh_rate`
    pub refresh: Duration,
    /// `respect_dns_ttl`
    pub respect_ttl: bool,
    /// Servers to ask; empty for the system's.
    servers: Vec<SocketAddr>,
    tcp: bool,
    search: bool,
}

impl DnsOptions {
    /// Reads a cluster's options.
    ///
    /// # Errors
    /// A resolver that is not built.
    pub fn new(c: &pb::Cluster) -> BuildResult<DnsOptions> {
        use pb::cluster::DnsLookupFamily as F;
        let (refresh, respect_ttl) = (&c.dns_refresh_rate, c.respect_dns_ttl);
        let mut o = DnsOptions {
            family: match F::try_from(c.dns_lookup_family) {
                Ok(F::V4Only) => Family::V4Only,
                Ok(F::V6Only) => Family::V6Only,
                Ok(F::V4Preferred) => Family::V4Preferred,
                Ok(F::All) => Family::All,
                _ => Family::Auto,
            },
            refresh: proto::duration_or(refresh, Duration::from_secs(5))?,
            respect_ttl,
            servers: vec![],
            tcp: false,
            search: true,
        };
        if let Some(any) = c.typed_dns_resolver_config.as_ref().and_then(|t| t.typed_config.as_ref()) {
            o.resolver(any)?;
        }
        Ok(o)
    }
    /// Takes the servers of a resolver's configuration: the cluster's own, or the bootstrap's.
    ///
    /// # Errors
    /// A resolver that is not built.
    pub fn resolver(&mut self, any: &prost_types::Any) -> BuildResult<()> {
        match any.type_url.rsplit('/').next() {
            Some("envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig") => {
                let c: CaresDnsResolverConfig = proto::unpack(any)?;
                for a in &c.resolvers {
                    match proto::address(a)? {
                        Address::Ip(a) => self.servers.push(a),
                        _ => return Err("DNS resolvers must be IP addresses".into()),
                    }
                }
                if c.use_resolvers_as_fallback && !self.servers.is_empty() {
                    return Err(BuildError::not_implemented(
                        "CaresDnsResolverConfig.use_resolvers_as_fallback",
                    ));
                }
                if let Some(d) = &c.dns_resolver_options {
                    self.tcp = d.use_tcp_for_dns_lookups;
                    self.search = !d.no_default_search_domain;
                }
                Ok(())
            }
            Some("envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig") => {
                Ok(())
            }
            other => Err(BuildError::not_implemented(format_args!(
                "typed_dns_resolver_config: {}",
                other.unwrap_or("")
            ))),
        }
    }
}

/// Resolves names with one set of options.
pub struct Resolver {
    inner: TokioResolver,
    options: DnsOptions,
}

/// What a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Addresses, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Duration,
}

impl Resolver {
    /// A resolver for `options`.
    ///
    /// # Errors
    /// The system's resolver configuration cannot be read.
    pub fn new(options: DnsOptions) -> Result<Resolver, String> {
        let mut builder = if options.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|e| e.to_string())?
        } else {
            let servers = options.servers.iter().map(|a| {
                let connections = if options.tcp {
                    vec![ConnectionConfig::tcp()]
                } else {
                    vec![ConnectionConfig::udp(), ConnectionConfig::tcp()]
                };
                let connections = connections.into_iter().map(|mut c| {
                    c.port = a.port();
                    c
                });
                NameServerConfig::new(a.ip(), true, connections.collect())
            });
            let config = ResolverConfig::from_parts(None, vec![], servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let o = builder.options_mut();
        o.cache_size = 0; // the cluster's refresh rate decides when to ask again
        o.timeout = Duration::from_secs(5);
        o.attempts = 2;
        if !options.search {
            o.ndots = 0;
        }
        Ok(Resolver { inner: builder.build().map_err(|e| e.to_string())?, options })
    }
    /// Resolves a name.
    ///
    /// # Errors
    /// The server's or the network's words; a name without addresses is not an error.
    pub async fn resolve(&self, name: &str) -> Result<Answer, String> {
        let v4 = || self.ask(name, false);
        let v6 = || self.ask(name, true);
        match self.options.family {
            Family::V4Only => v4().await,
            Family::V6Only => v6().await,
            Family::All => {
                let (a, b) = (v4().await, v6().await);
                match (a, b) {
                    (Ok(mut a), Ok(b)) => {
                        a.addresses.extend(b.addresses);
                        a.ttl = a.ttl.min(b.ttl);
                        Ok(a)
                    }
                    (Ok(a), Err(_)) | (Err(_), Ok(a)) => Ok(a),
                    (Err(e), Err(_)) => Err(e),
                }
            }
            Family::Auto => first_with_addresses(v6().await, v4).await,
            Family::V4Preferred => first_with_addresses(v4().await, v6).await,
        }
    }
    async fn ask(&self, name: &str, v6: bool) -> Result<Answer, String> {
        let found = if v6 {
            self.inner.ipv6_lookup(name).await.map(|l| {
                let valid = l.valid_until();
                (l.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<IpAddr>>(), valid)
            })
        } else {
            self.inner.ipv4_lookup(name).await.map(|l| {
                let valid = l.valid_until();
                (l.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<IpAddr>>(), valid)
            })
        };
        match found {
            Ok((addresses, valid)) => {
                #[expect(clippy::disallowed_methods, reason = "the resolver's own clock gave the other time")]
                let ttl = valid.saturating_duration_since(Instant::now());
                Ok(Answer { addresses, ttl })
            }
            Err(e) if e.is_no_records_found() => Ok(Answer { addresses: vec![], ttl: Duration::ZERO }),
            Err(e) => Err(e.to_string()),
        }
    }
}

async fn first_with_addresses<F>(
    first: Result<Answer, String>,
    second: impl FnOnce() -> F,
) -> Result<Answer, String>
where
    F: Future<Output = Result<Answer, String>>,
{
    match first {
        Ok(a) if !a.addresses.is_empty() => Ok(a),
        first => match second().await {
            Ok(b) if !b.addresses.is_empty() => Ok(b),
            Ok(b) => first.or(Ok(b)),
            Err(e) => first.map_err(|_| e),
        },
    }
}
