//! Resolving names for clusters, on main.

use super::config::Target;
use crate::proto;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use nuncio_api::envoy::config::cluster::v3 as pb;
use nuncio_api::envoy::config::core::v3 as core;
use nuncio_api::envoy::extensions::clusters::dns::v3::DnsCluster;
use nuncio_api::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use nuncio_core::address::Address;
use nuncio_core::coverage::Covered;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::stats;
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
    Covered::new(
        "envoy.extensions.clusters.dns.v3.DnsCluster",
        &[
            "dns_refresh_rate",
            "dns_failure_refresh_rate",
            "respect_dns_ttl",
            "dns_jitter",
            "typed_dns_resolver_config",
            "dns_lookup_family",
            "all_addresses_in_single_endpoint",
        ],
    ),
    Covered::new("envoy.config.cluster.v3.Cluster.RefreshRate", &["base_interval", "max_interval"]),
    Covered::new(
        "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate",
        &["base_interval", "max_interval"],
    ),
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

impl Family {
    /// A number of `Cluster.DnsLookupFamily`.
    pub fn of(number: i32) -> Family {
        use pb::cluster::DnsLookupFamily as F;
        match F::try_from(number) {
            Ok(F::V4Only) => Family::V4Only,
            Ok(F::V6Only) => Family::V6Only,
            Ok(F::V4Preferred) => Family::V4Preferred,
            Ok(F::All) => Family::All,
            _ => Family::Auto,
        }
    }
}

/// How a cluster's names are resolved.
#[derive(Clone, Debug, Default)]
pub struct DnsOptions {
    /// All addresses of a name are one host (`LOGICAL_DNS`, `all_addresses_in_single_endpoint`).
    pub logical: bool,
    /// Which addresses are wanted.
    pub family: Family,
    /// `dns_refresh_rate`
    pub refresh: Duration,
    /// `dns_failure_refresh_rate`: base and maximum; without it failed names are asked again after `refresh`.
    pub failure_refresh: Option<(Duration, Duration)>,
    /// `dns_jitter`: an answer holds longer by a random time below this.
    pub jitter: Duration,
    /// `respect_dns_ttl`
    pub respect_ttl: bool,
    /// Who is asked.
    pub servers: Servers,
}

/// Who is asked for names, and how (`typed_dns_resolver_config`). Clusters that ask alike share a resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Servers to ask; empty for the system's.
    addresses: Vec<SocketAddr>,
    tcp: bool,
    search: bool,
}

impl Default for Servers {
    fn default() -> Servers {
        Servers { addresses: vec![], tcp: false, search: true }
    }
}

impl DnsOptions {
    /// Reads a cluster's options.
    ///
    /// # Errors
    /// A resolver that is not built, or intervals that contradict each other.
    pub fn new(c: &pb::Cluster) -> BuildResult<DnsOptions> {
        let failure = c.dns_failure_refresh_rate.as_ref().map(|f| (&f.base_interval, &f.max_interval));
        let resolver = c.typed_dns_resolver_config.as_ref();
        // The two enums are the same but for their packages.
        let mut o =
            DnsOptions::read(c.dns_lookup_family, &c.dns_refresh_rate, failure, &c.dns_jitter, resolver)?;
        o.respect_ttl = c.respect_dns_ttl;
        Ok(o)
    }
    /// Reads the options of a cluster of the type `envoy.clusters.dns`, which replace those of `Cluster`.
    ///
    /// # Errors
    /// As [`DnsOptions::new`].
    pub fn of_extension(c: &DnsCluster) -> BuildResult<DnsOptions> {
        let failure = c.dns_failure_refresh_rate.as_ref().map(|f| (&f.base_interval, &f.max_interval));
        // Without a choice the extension's family is the first of its enum, which stands for the default.
        let family = match c.dns_lookup_family {
            0 => 0,
            n => n - 1,
        };
        let resolver = c.typed_dns_resolver_config.as_ref();
        let mut o = DnsOptions::read(family, &c.dns_refresh_rate, failure, &c.dns_jitter, resolver)?;
        o.respect_ttl = c.respect_dns_ttl;
        o.logical = c.all_addresses_in_single_endpoint;
        Ok(o)
    }
    fn read(
        family: i32,
        refresh: &Option<prost_types::Duration>,
        failure: Option<(&Option<prost_types::Duration>, &Option<prost_types::Duration>)>,
        jitter: &Option<prost_types::Duration>,
        resolver: Option<&core::TypedExtensionConfig>,
    ) -> BuildResult<DnsOptions> {
        let mut o = DnsOptions {
            family: Family::of(family),
            refresh: proto::duration_or(refresh, Duration::from_secs(5))?,
            jitter: proto::duration_or(jitter, Duration::ZERO)?,
            ..DnsOptions::default()
        };
        if let Some((base, max)) = failure {
            let base = proto::duration_or(base, Duration::ZERO)?;
            let max = proto::duration_or(max, base.saturating_mul(10))?;
            if max < base {
                return Err("dns_failure_refresh_rate must have max_interval greater than or equal to the \
                            base_interval"
                    .into());
            }
            o.failure_refresh = Some((base, max));
        }
        if let Some(any) = resolver.and_then(|t| t.typed_config.as_ref()) {
            o.servers = Servers::new(any)?;
        }
        Ok(o)
    }
}

impl Servers {
    /// Reads a resolver's configuration: a cluster's own, or the bootstrap's.
    ///
    /// # Errors
    /// A resolver that is not built.
    pub fn new(any: &prost_types::Any) -> BuildResult<Servers> {
        let mut servers = Servers::default();
        match any.type_url.rsplit('/').next() {
            Some("envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig") => {
                let c: CaresDnsResolverConfig = proto::unpack(any)?;
                for a in &c.resolvers {
                    match proto::address(a)? {
                        Address::Ip(a) => servers.addresses.push(a),
                        _ => return Err("DNS resolvers must be IP addresses".into()),
                    }
                }
                if c.use_resolvers_as_fallback && !servers.addresses.is_empty() {
                    return Err(BuildError::not_implemented(
                        "CaresDnsResolverConfig.use_resolvers_as_fallback",
                    ));
                }
                if let Some(d) = &c.dns_resolver_options {
                    servers.tcp = d.use_tcp_for_dns_lookups;
                    servers.search = !d.no_default_search_domain;
                }
                Ok(servers)
            }
            Some("envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig") => {
                Ok(servers)
            }
            other => Err(BuildError::not_implemented(format_args!(
                "typed_dns_resolver_config: {}",
                other.unwrap_or("")
            ))),
        }
    }
}

/// Resolves names. What the system's configuration lacks is said at every name.
pub struct Resolver {
    inner: Result<TokioResolver, String>,
    stats: DnsStats,
}

stats! {
    /// `dns.cares.`
    pub struct DnsStats {
        get_addr_failure: SharedCounter,
        not_found: SharedCounter,
        reinits: SharedCounter,
        resolve_total: SharedCounter,
        timeouts: SharedCounter,
        pending_resolutions: SetGauge,
    }
}

/// What a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Addresses, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Duration,
    /// There are none because the name does not exist.
    pub unknown: bool,
}

impl Resolver {
    /// A resolver that asks `servers`.
    pub fn new(servers: &Servers, stats: DnsStats) -> Resolver {
        Resolver { inner: Resolver::build(servers), stats }
    }
    fn build(servers: &Servers) -> Result<TokioResolver, String> {
        let mut builder = if servers.addresses.is_empty() {
            TokioResolver::builder_tokio().map_err(|e| e.to_string())?
        } else {
            let all = servers.addresses.iter().map(|a| {
                let connections = if servers.tcp {
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
            let config = ResolverConfig::from_parts(None, vec![], all.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let o = builder.options_mut();
        o.cache_size = 0; // the cluster's refresh rate decides when to ask again
        o.timeout = Duration::from_secs(5);
        o.attempts = 2;
        if !servers.search {
            o.ndots = 0;
        }
        builder.build().map_err(|e| e.to_string())
    }
    /// Resolves what a cluster's endpoint is found by. An address is its own answer.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub async fn target(&self, target: &Target, family: Family) -> Result<Answer, String> {
        match target {
            Target::Name(name, _) => self.resolve(name, family).await,
            Target::Address(a) => {
                self.stats.resolve_total().inc();
                let addresses = match a {
                    Address::Ip(a) => vec![a.ip()],
                    _ => return Err(format!("{a} is not an IP address")),
                };
                Ok(Answer { addresses, ttl: Duration::ZERO, unknown: false })
            }
        }
    }
    /// Resolves a name.
    ///
    /// # Errors
    /// The server's or the network's words; a name without addresses is not an error.
    pub async fn resolve(&self, name: &str, family: Family) -> Result<Answer, String> {
        self.stats.resolve_total().inc();
        self.stats.pending_resolutions().add(1);
        let answer = self.families(name, family).await;
        self.stats.pending_resolutions().sub(1);
        match &answer {
            Ok(a) if a.addresses.is_empty() => self.stats.not_found().inc(),
            Ok(_) => {}
            Err(_) => self.stats.get_addr_failure().inc(),
        }
        answer
    }
    async fn families(&self, name: &str, family: Family) -> Result<Answer, String> {
        let v4 = || self.ask(name, false);
        let v6 = || self.ask(name, true);
        match family {
            Family::V4Only => v4().await,
            Family::V6Only => v6().await,
            Family::All => {
                let (a, b) = (v4().await, v6().await);
                match (a, b) {
                    (Ok(mut a), Ok(b)) if a.addresses.is_empty() || b.addresses.is_empty() => {
                        a.ttl = a.ttl.max(b.ttl);
                        a.addresses.extend(b.addresses);
                        Ok(a)
                    }
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
        let inner = self.inner.as_ref().map_err(Clone::clone)?;
        let found = if v6 {
            inner.ipv6_lookup(name).await.map(|l| {
                let valid = l.valid_until();
                (l.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<IpAddr>>(), valid)
            })
        } else {
            inner.ipv4_lookup(name).await.map(|l| {
                let valid = l.valid_until();
                (l.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<IpAddr>>(), valid)
            })
        };
        match found {
            Ok((addresses, valid)) => {
                #[expect(clippy::disallowed_methods, reason = "the resolver's own clock gave the other time")]
                let ttl = valid.saturating_duration_since(Instant::now());
                Ok(Answer { addresses, ttl, unknown: false })
            }
            Err(e) if e.is_no_records_found() => {
                Ok(Answer { addresses: vec![], ttl: Duration::ZERO, unknown: e.is_nx_domain() })
            }
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
