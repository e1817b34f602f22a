//! Phrases, precedence and what takes no choice back were measured on Envoy 1.40.

use super::*;
use nuncio_api::load::{Format, UnknownFields, parse_message};

/// Chains named by their place, from `FilterChainMatch`es.
fn chains(matches: &[&str]) -> Vec<pb::FilterChain> {
    let all: Vec<_> = matches
        .iter()
        .enumerate()
        .map(|(i, m)| format!("- {{name: '{i}', filter_chain_match: {{{m}}}}}"))
        .collect();
    let yaml = format!("name: l\nfilter_chains:\n{}", all.join("\n"));
    let loaded = parse_message::<pb::Listener>(yaml.as_bytes(), Format::Yaml, "t", UnknownFields::Refuse);
    loaded.unwrap_or_else(|e| panic!("{}", e.envoy_phrase())).message.filter_chains
}

fn built(matches: &[&str]) -> Chains {
    Chains::new(&chains(matches), None, "L").unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(matches: &[&str]) -> String {
    Chains::new(&chains(matches), None, "L").err().expect("a refusal").0
}

/// A connection: `server name, ALPN…` over TLS or plain, from and to these addresses.
struct Conn {
    local: Address,
    remote: Address,
    direct: Address,
    detected: Detected,
}

fn conn() -> Conn {
    let ip = |s: &str| Address::Ip(s.parse().unwrap());
    let (local, remote, direct) = (ip("10.1.2.3:80"), ip("192.0.2.1:5000"), ip("198.51.100.1:6000"));
    Conn { local, remote, direct, detected: Detected::default() }
}

impl Conn {
    fn local(mut self, a: &str) -> Conn {
        self.local = Address::Ip(a.parse().unwrap());
        self
    }
    fn remote(mut self, a: &str) -> Conn {
        self.remote = Address::Ip(a.parse().unwrap());
        self
    }
    fn pipe(mut self) -> Conn {
        self.local = Address::Pipe(std::sync::Arc::new("/x".into()));
        self.remote = Address::Pipe(std::sync::Arc::default());
        self
    }
    fn tls(mut self, name: &str, protocols: &[&str]) -> Conn {
        self.detected.transport_protocol = "tls";
        self.detected.server_name = name.into();
        self.detected.application_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }
    fn gets(&self, c: &Chains) -> Option<usize> {
        c.find(&Facts {
            local: &self.local,
            remote: &self.remote,
            direct_remote: &self.direct,
            detected: &self.detected,
        })
    }
}

#[test]
fn a_chain_without_rules_takes_everything() {
    let c = built(&[""]);
    assert_eq!(c.all, Some(0));
    assert_eq!(conn().gets(&c), Some(0));
    assert_eq!(conn().pipe().gets(&c), Some(0));
}

#[test]
fn the_most_specific_name_wins() {
    let c = built(&[
        "server_names: [A.example]",
        "server_names: ['*.example']",
        "server_names: ['*.b.example']",
        "",
    ]);
    for (name, chain) in [
        ("a.example", 0),
        ("x.example", 1),
        ("x.a.example", 1),
        ("x.b.example", 2),
        ("b.example", 1),
        ("example", 3),
        ("", 3),
    ] {
        assert_eq!(conn().tls(name, &[]).gets(&c), Some(chain), "{name}");
    }
}

#[test]
fn longer_prefixes_win_and_nothing_is_taken_back() {
    let c = built(&[
        "prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]",
        "prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}], server_names: [a]",
        "prefix_ranges: [{address_prefix: '::', prefix_len: 0}]",
    ]);
    assert_eq!(conn().local("10.2.0.1:80").gets(&c), Some(0));
    assert_eq!(conn().tls("a", &[]).gets(&c), Some(1));
    assert_eq!(conn().tls("b", &[]).gets(&c), None, "the /16 was chosen, its server name fits not");
    assert_eq!(conn().local("[2001:db8::1]:80").gets(&c), Some(2));
    assert_eq!(conn().local("11.0.0.1:80").gets(&c), None);
}

#[test]
fn a_port_of_its_own_comes_before_all_else() {
    let c = built(&["destination_port: 80, server_names: [a]", "server_names: [b]"]);
    assert_eq!(conn().tls("a", &[]).gets(&c), Some(0));
    assert_eq!(conn().tls("b", &[]).gets(&c), None);
    assert_eq!(conn().local("10.1.2.3:81").tls("b", &[]).gets(&c), Some(1));
    assert_eq!(conn().pipe().tls("b", &[]).gets(&c), Some(1), "a pipe has no port");
}

#[test]
fn transport_and_application_protocols() {
    let c = built(&[
        "transport_protocol: raw_buffer",
        "transport_protocol: tls, application_protocols: [h2, x]",
        "application_protocols: ['y']",
        "transport_protocol: tls",
    ]);
    assert_eq!(conn().gets(&c), Some(0), "what no filter detected is a raw buffer");
    assert_eq!(conn().tls("", &["y", "x", "h2"]).gets(&c), Some(1), "y is no chain's of those for tls");
    assert_eq!(conn().tls("", &["z"]).gets(&c), Some(3));
    assert_eq!(conn().tls("", &[]).gets(&c), Some(3));
    let c = built(&["application_protocols: [h2]", "application_protocols: [h3]"]);
    assert_eq!(conn().tls("", &["h3", "h2"]).gets(&c), Some(1), "the client's favourite first");
}

#[test]
fn sources() {
    let c = built(&[
        "source_type: SAME_IP_OR_LOOPBACK",
        "source_type: EXTERNAL, source_prefix_ranges: [{address_prefix: 192.0.2.0, prefix_len: 24}], source_ports: [5000]",
        "source_prefix_ranges: [{address_prefix: 203.0.113.0, prefix_len: 24}]",
    ]);
    assert_eq!(conn().remote("127.0.0.1:1").gets(&c), Some(0));
    assert_eq!(conn().remote("10.1.2.3:1").gets(&c), Some(0), "our own address");
    assert_eq!(conn().pipe().gets(&c), Some(0));
    assert_eq!(conn().gets(&c), Some(1));
    assert_eq!(conn().remote("192.0.2.1:5001").gets(&c), None);
    assert_eq!(conn().remote("203.0.113.1:1").gets(&c), None, "EXTERNAL was chosen");
    let c = built(&[
        "direct_source_prefix_ranges: [{address_prefix: 198.51.100.0, prefix_len: 24}]",
        "source_ports: [5000]",
    ]);
    assert_eq!(conn().gets(&c), Some(0));
}

#[test]
fn the_default_chain_serves_the_rest() {
    let c = Chains::new(&chains(&["destination_port: 81"]), Some(1), "L").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(conn().gets(&c), Some(1));
    assert_eq!(conn().local("10.1.2.3:81").gets(&c), Some(0));
}

#[test]
fn refusals() {
    let same = "server_names: [a], destination_port: 80";
    assert_eq!(
        refusal(&[same, same]),
        "error adding listener 'L': filter chain '1' has the same matching rules defined as '0'. duplicate matcher is: \
         {\"destination_port\":80,\"server_names\":[\"a\"]}"
    );
    assert_eq!(
        refusal(&["", ""]),
        "error adding listener 'L': filter chain '1' has the same matching rules defined as '0'. duplicate matcher is: {}"
    );
    let overlap =
        "error adding listener 'L': multiple filter chains with overlapping matching rules are defined";
    for both in [
        ["server_names: [a]", "server_names: [A]"],
        ["source_ports: [1, 2]", "source_ports: [2, 3]"],
        ["application_protocols: [h2, x]", "application_protocols: [x]"],
        [
            "prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]",
            "prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 8}]",
        ],
    ] {
        assert_eq!(refusal(&both), overlap, "{both:?}");
    }
    assert_eq!(refusal(&["server_names: [x, X]"]), overlap);
    let partial = "error adding listener 'L': partial wildcards are not supported in \"server_names\"";
    for name in ["'a*.example'", "'*'", "'*a'", "'*.*.a'"] {
        assert_eq!(refusal(&[&format!("server_names: [{name}]")]), partial);
    }
    let bad = "prefix_ranges: [{address_prefix: 10.0.0, prefix_len: 8}]";
    assert_eq!(refusal(&[bad]), "malformed IP address: 10.0.0");
    let suffix = "address_suffix: 1.2.3.4";
    assert_eq!(
        refusal(&[suffix]),
        "error adding listener 'L': filter chain '0' contains unimplemented fields"
    );
}
