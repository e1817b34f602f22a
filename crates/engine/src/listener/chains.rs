//! Which filter chain a connection gets (`FilterChainMatch`).
//!
//! The criteria are looked at in Envoy's order: destination port, destination address, server name, transport protocol,
//! application protocol, direct source address, source type, source address, source port. At each one the most specific
//! value that any chain names wins, and nothing takes that choice back: when a later criterion then fits no chain, the
//! default chain serves the connection, if there is one.

use nuncio_api::envoy::config::core::v3::CidrRange as CidrProto;
use nuncio_api::envoy::config::listener::v3 as pb;
use nuncio_core::address::Address;
use nuncio_core::error::{BuildError, BuildResult};
use nuncio_core::listener_filter::Detected;
use nuncio_core::matchers::CidrRange;
use pb::filter_chain_match::ConnectionSourceType;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// Says which chain, by its number, serves a connection.
#[derive(Default)]
pub struct Chains {
    root: Node,
    /// The only chain takes everything: nothing needs to be looked up.
    all: Option<usize>,
    default: Option<usize>,
}

/// What a connection is judged by.
pub struct Facts<'a> {
    /// Our address, after listener filters.
    pub local: &'a Address,
    /// The client's address, after listener filters.
    pub remote: &'a Address,
    /// The client's address as the socket says.
    pub direct_remote: &'a Address,
    /// What listener filters found.
    pub detected: &'a Detected,
}

/// One criterion: the values that chains name for it, and what comes next for each. A criterion uses one of the maps;
/// `any` is for chains that do not care.
#[derive(Default)]
struct Node {
    numbers: BTreeMap<u16, Node>,
    texts: HashMap<Box<[u8]>, Node>,
    ranges: HashMap<CidrRange, Node>,
    /// Lengths of the prefixes in `ranges`, longest first.
    lens: Vec<u8>,
    any: Option<Box<Node>>,
    /// After the last criterion: the chain.
    chain: Option<usize>,
}

/// A value of one criterion, in configuration.
#[derive(Clone)]
enum Value {
    Any,
    Number(u16),
    Text(Box<[u8]>),
    Range(CidrRange),
}

/// Chains whose rules overlap.
struct Overlap;

impl Node {
    fn child(&mut self, v: &Value) -> &mut Node {
        match v {
            Value::Any => self.any.get_or_insert_default(),
            Value::Number(n) => self.numbers.entry(*n).or_default(),
            Value::Text(t) => self.texts.entry(t.clone()).or_default(),
            Value::Range(r) => {
                if !self.lens.contains(&r.prefix_len()) {
                    self.lens.push(r.prefix_len());
                    self.lens.sort_unstable_by(|a, b| b.cmp(a));
                }
                self.ranges.entry(*r).or_default()
            }
        }
    }
    /// Enters a chain under every combination of its values.
    fn insert(&mut self, values: &[Vec<Value>], chain: usize) -> Result<(), Overlap> {
        let Some((first, rest)) = values.split_first() else {
            return match self.chain.replace(chain) {
                None => Ok(()),
                Some(_) => Err(Overlap),
            };
        };
        first.iter().try_for_each(|v| self.child(v).insert(rest, chain))
    }
    fn any(&self) -> Option<&Node> {
        self.any.as_deref()
    }
    fn number(&self, n: Option<u16>) -> Option<&Node> {
        n.and_then(|n| self.numbers.get(&n)).or(self.any())
    }
    fn range(&self, a: &Address) -> Option<&Node> {
        // What is no IP address counts as one that no sensible range holds.
        let ip = a.ip().unwrap_or(IpAddr::V4(Ipv4Addr::BROADCAST));
        let fits = |len: &u8| self.ranges.get(&CidrRange::of(ip, u32::from(*len)));
        self.lens.iter().find_map(fits).or(self.any())
    }
    fn text(&self, t: &[u8]) -> Option<&Node> {
        self.texts.get(t).or(self.any())
    }
    /// The name itself, then ever shorter ends of it that begin with a dot.
    fn name(&self, name: &str) -> Option<&Node> {
        if self.texts.is_empty() {
            return self.any();
        }
        let ends = name.match_indices('.').map(|(i, _)| &name[i..]);
        std::iter::once(name).chain(ends).find_map(|n| self.texts.get(n.as_bytes())).or(self.any())
    }
    fn source_type(&self, f: &Facts<'_>) -> Option<&Node> {
        if self.numbers.is_empty() {
            return self.any();
        }
        let kind = match is_local(f) {
            true => ConnectionSourceType::SameIpOrLoopback,
            false => ConnectionSourceType::External,
        };
        self.number(Some(kind as u16))
    }
}

fn is_local(f: &Facts<'_>) -> bool {
    match (f.remote.ip(), f.local.ip()) {
        (Some(remote), local) => remote.is_loopback() || Some(remote) == local,
        (None, _) => matches!(f.remote, Address::Pipe(_)),
    }
}

impl Chains {
    /// Enters the chains of a listener, which is `name`d in errors; `default` is the number of its default chain.
    ///
    /// # Errors
    /// A rule is refused, or two chains take the same connections.
    pub fn new(chains: &[pb::FilterChain], default: Option<usize>, name: &str) -> BuildResult<Chains> {
        let mut all = Chains { default, ..Chains::default() };
        for (i, c) in chains.iter().enumerate() {
            let m = c.filter_chain_match.as_deref().cloned().unwrap_or_default();
            check(chains, i, &m, name)?;
            all.root.insert(&values(&m, name)?, i).map_err(|_: Overlap| {
                BuildError(format!(
                    "error adding listener '{name}': multiple filter chains with overlapping matching rules are defined"
                ))
            })?;
        }
        if let [one] = chains
            && one.filter_chain_match.as_ref().is_none_or(|m| **m == pb::FilterChainMatch::default())
        {
            all.all = Some(0);
        }
        Ok(all)
    }
    /// The chain of a connection.
    pub fn find(&self, f: &Facts<'_>) -> Option<usize> {
        self.all.or_else(|| self.look_up(f)).or(self.default)
    }
    fn look_up(&self, f: &Facts<'_>) -> Option<usize> {
        let d = f.detected;
        let transport = if d.transport_protocol.is_empty() { "raw_buffer" } else { d.transport_protocol };
        let port = self.root.number(f.local.port())?;
        let transport = port.range(f.local)?.name(&d.server_name)?.text(transport.as_bytes())?;
        let offered = d.application_protocols.iter().find_map(|p| transport.texts.get(&p[..]));
        let direct = offered.or(transport.any())?.range(f.direct_remote)?;
        direct.source_type(f)?.range(f.remote)?.number(f.remote.port())?.chain
    }
}

/// Refuses what Envoy has not built, and chains with exactly the same rules.
fn check(chains: &[pb::FilterChain], i: usize, m: &pb::FilterChainMatch, name: &str) -> BuildResult<()> {
    let c = &chains[i].name;
    if !m.address_suffix.is_empty() || m.suffix_len.is_some() {
        return Err(format!(
            "error adding listener '{name}': filter chain '{c}' contains unimplemented fields"
        )
        .into());
    }
    let none = pb::FilterChainMatch::default();
    let same = chains[..i].iter().find(|e| e.filter_chain_match.as_deref().unwrap_or(&none) == m);
    let Some(earlier) = same else { return Ok(()) };
    let json = nuncio_api::json::json_of(m, Default::default()).unwrap_or_default();
    Err(BuildError(format!(
        "error adding listener '{name}': filter chain '{c}' has the same matching rules defined as '{}'. duplicate \
         matcher is: {json}",
        earlier.name
    )))
}

/// What a chain asks for, by criterion, in order.
fn values(m: &pb::FilterChainMatch, name: &str) -> BuildResult<[Vec<Value>; 9]> {
    let port = |p: u32| u16::try_from(p).map_or(Value::Any, Value::Number);
    let server = |n: &String| match n.strip_prefix('*') {
        Some(end) if end.starts_with('.') && !end.contains('*') => {
            Ok(Value::Text(end.to_ascii_lowercase().into_bytes().into()))
        }
        None if !n.contains('*') => Ok(Value::Text(n.to_ascii_lowercase().into_bytes().into())),
        _ => Err(BuildError(format!(
            "error adding listener '{name}': partial wildcards are not supported in \"server_names\""
        ))),
    };
    let text = |t: &String| Value::Text(t.as_bytes().into());
    let ports = m.source_ports.iter().map(|p| port(*p)).collect();
    let transport = Some(&m.transport_protocol).filter(|t| !t.is_empty()).map(text);
    let kind = match m.source_type() {
        ConnectionSourceType::Any => Value::Any,
        kind => Value::Number(kind as u16),
    };
    Ok([
        or_any(m.destination_port.map(port).into_iter().collect()),
        ranges(&m.prefix_ranges)?,
        or_any(m.server_names.iter().map(server).collect::<BuildResult<_>>()?),
        or_any(transport.into_iter().collect()),
        or_any(m.application_protocols.iter().map(text).collect()),
        ranges(&m.direct_source_prefix_ranges)?,
        vec![kind],
        ranges(&m.source_prefix_ranges)?,
        or_any(ports),
    ])
}

fn or_any(v: Vec<Value>) -> Vec<Value> {
    if v.is_empty() { vec![Value::Any] } else { v }
}

fn ranges(all: &[CidrProto]) -> BuildResult<Vec<Value>> {
    Ok(or_any(all.iter().map(|r| CidrRange::new(r).map(Value::Range)).collect::<BuildResult<_>>()?))
}

#[cfg(test)]
#[path = "chains_tests.rs"]
mod tests;
