//! The configuration files of `examples/front-proxy`, made to fit loopback.
//!
//! The files are plain Envoy configuration and run unchanged in containers. Here a copy is written in which three
//! things differ, all by rules simple enough to be seen with `diff`:
//!
//! 1. `address: 0.0.0.0` becomes the proxy's own loopback address;
//! 2. each `port_value: P` becomes what [`Ports::moved`] says (no change without `--base-port`);
//! 3. `typed_dns_resolver_config`, for all clusters, is put at the end and names the sandbox's DNS server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::Failure;
use super::topology::{ADMIN, DNS, FRONT, HTTP, HTTPS, Ports, SERVICES, SIDECAR};

/// One proxy of the sandbox.
pub(super) struct ProxySpec {
    /// What users and DNS call it.
    pub(super) name: &'static str,
    /// Its own address.
    pub(super) ip: Ipv4Addr,
    /// Its configuration file.
    pub(super) file: &'static str,
    /// The file's text as it was when this binary was built.
    built_in: &'static str,
    /// Port in the file, and what it speaks there.
    pub(super) ports: &'static [(u16, &'static str)],
}

/// All proxies, those that others need first.
pub(super) fn proxies() -> [ProxySpec; 3] {
    const SIDECAR_PORTS: &[(u16, &str)] = &[(SIDECAR, "http"), (ADMIN, "admin")];
    [
        ProxySpec {
            name: SERVICES[0].sidecar,
            ip: SERVICES[0].sidecar_ip(),
            file: "service1-sidecar.yaml",
            built_in: include_str!("../../../../examples/front-proxy/service1-sidecar.yaml"),
            ports: SIDECAR_PORTS,
        },
        ProxySpec {
            name: SERVICES[1].sidecar,
            ip: SERVICES[1].sidecar_ip(),
            file: "service2-sidecar.yaml",
            built_in: include_str!("../../../../examples/front-proxy/service2-sidecar.yaml"),
            ports: SIDECAR_PORTS,
        },
        ProxySpec {
            name: "front-proxy",
            ip: FRONT,
            file: "front-proxy.yaml",
            built_in: include_str!("../../../../examples/front-proxy/front-proxy.yaml"),
            ports: &[(HTTP, "http"), (HTTPS, "https"), (ADMIN, "admin")],
        },
    ]
}

impl ProxySpec {
    /// The configuration for loopback, from the text built in or from the user's file.
    ///
    /// # Errors
    /// When `config_dir` is given and has no such readable file.
    pub(super) fn config(&self, config_dir: Option<&Path>, ports: Ports) -> Result<String, Failure> {
        match config_dir {
            None => Ok(adapt(self.built_in, self.ip, ports)),
            Some(directory) => {
                let path = directory.join(self.file);
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                Ok(adapt(&text, self.ip, ports))
            }
        }
    }
}

/// Applies the first two rules.
pub(super) fn move_ports(text: &str, ip: Ipv4Addr, ports: Ports) -> String {
    let mut out = String::with_capacity(text.len() + 600);
    for line in text.lines() {
        match line.split_once(':') {
            Some((key, "")) => out.extend([key, ":"]),
            Some((key, value)) if key.trim() == "address" && value.trim() == "0.0.0.0" => {
                out.extend([key, ": ", &ip.to_string()]);
            }
            Some((key, value)) if key.trim() == "port_value" => match value.trim().parse() {
                Ok(port) => out.extend([key, ": ", &ports.moved(port).to_string()]),
                Err(_) => out.push_str(line),
            },
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// Applies the three rules.
fn adapt(text: &str, ip: Ipv4Addr, ports: Ports) -> String {
    let mut out = move_ports(text, ip, ports);
    // A file that brings a resolver of its own means it.
    if !text.lines().any(|line| line.starts_with("typed_dns_resolver_config:")) {
        out.push_str(&resolver(ports.at(FRONT, DNS)));
    }
    out
}

/// The bootstrap field that sends all names of all clusters to the sandbox's DNS server, and nowhere else.
fn resolver(server: SocketAddr) -> String {
    format!(
        r#"
typed_dns_resolver_config:
  name: envoy.network.dns_resolver.cares
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
    resolvers:
    - socket_address:
        address: {}
        port_value: {}
    use_resolvers_as_fallback: false
    dns_resolver_options:
      no_default_search_domain: true
"#,
        server.ip(),
        server.port()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that a copy has and its original has not.
    fn changed(spec: &ProxySpec, base: u16) -> Vec<String> {
        let copy = spec.config(None, Ports::new(base)).expect("built in");
        let length = spec.built_in.lines().count();
        copy.lines()
            .zip(spec.built_in.lines())
            .take(length)
            .filter(|(new, old)| new != old)
            .map(|(new, _)| new.trim().to_string())
            .collect()
    }

    #[test]
    fn only_own_addresses_change() {
        for spec in proxies() {
            let expected = vec![format!("address: {}", spec.ip); spec.ports.len()];
            assert_eq!(changed(&spec, 8000), expected, "{}", spec.name);
        }
    }

    #[test]
    fn all_ports_move() {
        let [sidecar, _, front] = proxies();
        assert_eq!(
            changed(&sidecar, 9000),
            [
                "address: 127.0.1.10",
                "port_value: 9000",
                "port_value: 9080",
                "address: 127.0.1.10",
                "port_value: 9001"
            ]
        );
        let front = changed(&front, 9000);
        let ports: Vec<&String> = front.iter().filter(|line| line.starts_with("port_value")).collect();
        assert_eq!(
            ports,
            [
                "port_value: 9080",
                "port_value: 9443",
                "port_value: 9000",
                "port_value: 9000",
                "port_value: 9001"
            ]
        );
    }

    #[test]
    fn names_go_to_our_dns_server_only() {
        for spec in proxies() {
            let copy = spec.config(None, Ports::new(9000)).expect("built in");
            assert!(copy.contains("        address: 127.0.0.1\n        port_value: 9053\n"), "{copy}");
            assert_eq!(adapt(&copy, FRONT, Ports::new(8000)).matches("typed_dns_resolver_config").count(), 1);
        }
    }

    #[test]
    fn files_of_the_user_are_read() {
        let missing = proxies()[0].config(Some(Path::new("/nonexistent")), Ports::new(8000));
        assert!(missing.expect_err("no such file").starts_with("/nonexistent/service1-sidecar.yaml: "));
    }
}
