//! Bootstraps for tests: one listener with a connection manager in front of clusters of fake hosts.
//!
//! Everything but the frame is given as flow-style YAML, e.g. `max_connections: 1`, so that a test shows the fields it is
//! about and nothing else.

use std::fmt::Write;
use std::net::SocketAddr;

/// What to configure; [`yaml`](Self::yaml) writes it out.
#[derive(Default, Clone)]
pub struct Config {
    /// The listener's name and port; `ingress` and a free one.
    name: Option<String>,
    port: u16,
    hcm: Vec<String>,
    tcp: Option<String>,
    listener: Vec<String>,
    chain: Vec<String>,
    routes: Vec<String>,
    filters: Vec<String>,
    clusters: Vec<String>,
}

impl Config {
    /// A listener `ingress` on a free port of loopback, without routes or clusters.
    pub fn new() -> Config {
        Config::default()
    }
    /// Another name and port for the listener.
    pub fn named(mut self, name: &str, port: u16) -> Config {
        (self.name, self.port) = (Some(name.into()), port);
        self
    }
    /// One HTTP/1 cluster `up` with this host, and a route of everything to it.
    pub fn to(host: SocketAddr) -> Config {
        Config::new().cluster("up", host, "").route("match: {prefix: /}, route: {cluster: up}")
    }
    /// As [`to`](Self::to), over HTTP/2.
    pub fn to_h2(host: SocketAddr) -> Config {
        Config::new().h2_cluster("up", host, "", "").route("match: {prefix: /}, route: {cluster: up}")
    }
    /// Fields of the `HttpConnectionManager`.
    pub fn hcm(mut self, fields: &str) -> Config {
        self.hcm.push(fields.into());
        self
    }
    /// A TCP proxy instead of the connection manager; fields of the `TcpProxy`.
    pub fn tcp(mut self, fields: &str) -> Config {
        self.tcp = Some(fields.into());
        self
    }
    /// Fields of the `Listener`.
    pub fn listener(mut self, fields: &str) -> Config {
        self.listener.push(fields.into());
        self
    }
    /// The listener speaks TLS with this certificate (PEM); fields of `CommonTlsContext` may follow.
    pub fn tls(mut self, certificate: &str, key: &str, fields: &str) -> Config {
        self.chain.push(format!(
            "transport_socket: {{name: tls, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
             common_tls_context: {{tls_certificates: [{{certificate_chain: {{inline_string: {}}}, private_key: \
             {{inline_string: {}}}}}], {fields}}}}}}}",
            quote(certificate),
            quote(key),
        ));
        self
    }
    /// Adds a route, in front of those added before.
    pub fn route(mut self, fields: &str) -> Config {
        self.routes.insert(0, fields.into());
        self
    }
    /// Adds the filter of [`probe`](crate::probe).
    pub fn probe(mut self, act: &str) -> Config {
        self.filters.push(format!(
            "{{name: {}, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, \
             stat_prefix: {}}}}}",
            crate::probe::FILTER,
            quote(act)
        ));
        self
    }
    /// Writes an access log of this format to a [`probe::Log`](crate::probe::Log).
    pub fn log(self, log: &crate::probe::Log, format: &str) -> Config {
        self.hcm(&format!(
            "access_log: [{{name: {}, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog, config: {{name: {}}}}}}}]",
            crate::probe::LOG,
            quote(&format!("{} {format}", log.id()))
        ))
    }
    /// Adds a STATIC cluster with one host; `fields` of the `Cluster`.
    pub fn cluster(self, name: &str, host: SocketAddr, fields: &str) -> Config {
        self.cluster_of(name, &[(host, "")], fields)
    }
    /// Adds a STATIC cluster with these hosts, each with fields of its `LbEndpoint`.
    pub fn cluster_of(mut self, name: &str, hosts: &[(SocketAddr, &str)], fields: &str) -> Config {
        let host = |(host, fields): &(SocketAddr, &str)| {
            let (ip, port) = (host.ip(), host.port());
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}, {fields}}}"
            )
        };
        let hosts: Vec<_> = hosts.iter().map(host).collect();
        self.clusters.push(format!(
            "{{name: {name}, type: STATIC, connect_timeout: 5s, load_assignment: {{cluster_name: {name}, endpoints: \
             [{{lb_endpoints: [{}]}}]}}, {fields}}}",
            hosts.join(", ")
        ));
        self
    }
    /// As [`cluster`](Self::cluster), over HTTP/2; `h2` are fields of `Http2ProtocolOptions`.
    pub fn h2_cluster(self, name: &str, host: SocketAddr, h2: &str, fields: &str) -> Config {
        let options = format!(
            "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{'@type': \
             type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
             {{http2_protocol_options: {{{h2}}}}}}}}}, {fields}"
        );
        self.cluster(name, host, &options)
    }
    /// The bootstrap.
    pub fn yaml(&self) -> String {
        let listener = self.listener_yaml().replace('\n', "\n    ");
        format!(
            "static_resources:\n  listeners:\n  - {}\n  clusters: [{}]\n",
            listener.trim_end(),
            self.clusters.join(", ")
        )
    }
    /// The clusters, one by one.
    pub fn clusters_yaml(&self) -> &[String] {
        &self.clusters
    }
    /// The listener.
    pub fn listener_yaml(&self) -> String {
        let (name, port) = (self.name.as_deref().unwrap_or("ingress"), self.port);
        let mut y = format!(
            "name: {name}\naddress: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}\n"
        );
        for l in &self.listener {
            let _ = writeln!(y, "{l}"); // writing to a string succeeds
        }
        let _ = write!(y, "filter_chains:\n- {}", self.chain_yaml().trim_end().replace('\n', "\n  "));
        y
    }
    /// The filter chain.
    pub fn chain_yaml(&self) -> String {
        let mut y = match &self.tcp {
            Some(fields) => format!(
                "filters:\n- {{name: tcp, typed_config: {{'@type': \
                 type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: ingress, \
                 {fields}}}}}\n"
            ),
            None => self.connection_manager(),
        };
        for c in &self.chain {
            let _ = writeln!(y, "{c}"); // as above
        }
        y
    }
    fn connection_manager(&self) -> String {
        let mut y = String::from("filters:\n- name: hcm\n  typed_config:\n");
        y.push_str("    '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n");
        if !self.hcm.iter().any(|h| h.contains("stat_prefix: ")) {
            y.push_str("    stat_prefix: ingress\n");
        }
        for h in &self.hcm {
            let _ = writeln!(y, "    {h}");
        }
        y.push_str(
            "    route_config:\n      name: r\n      validate_clusters: false\n      virtual_hosts:\n",
        );
        let routes: Vec<_> = self.routes.iter().map(|r| format!("{{{r}}}")).collect();
        let _ = writeln!(y, "      - {{name: v, domains: ['*'], routes: [{}]}}", routes.join(", "));
        let mut filters = self.filters.clone();
        filters.push(
            "{name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"
                .into(),
        );
        let _ = writeln!(y, "    http_filters: [{}]", filters.join(", "));
        y
    }
}

/// A double-quoted YAML scalar.
fn quote(s: &str) -> String {
    let s = s.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{s}\"")
}
