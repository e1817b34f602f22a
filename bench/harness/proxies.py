"""The proxies and how each is configured for a scenario: one worker, keep-alive upstream, logs off."""
import os
import shutil
import time
from pathlib import Path

from . import process

CONF = Path(__file__).resolve().parent.parent / "conf"
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client"}
H2_UPSTREAM = """
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }"""
# What protects hosts and clients from failures, when nothing fails.
RETRIES = """, retry_policy: { retry_on: "connect-failure,refused-stream,reset,5xx", num_retries: 3, retry_host_predicate: [{
                  name: envoy.retry_host_predicates.previous_hosts, typed_config: {
                  "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } }] }"""
GUARDS = """
    circuit_breakers:
      thresholds:
      - { max_connections: 10000, max_pending_requests: 10000, max_requests: 10000, track_remaining: true,
          retry_budget: { budget_percent: { value: 20 } } }
    outlier_detection: { consecutive_5xx: 5, interval: 5s, split_external_local_origin_errors: true }"""
NGINX_TLS = """ssl_certificate {certs}/cert.pem; ssl_certificate_key {certs}/key.pem;
    ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache none;"""
ENVOY_TLS = """
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          disable_stateless_session_resumption: true
          disable_stateful_session_resumption: true
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: { filename: "%s/cert.pem" }
              private_key: { filename: "%s/key.pem" }"""


def which(name):
    """Where a peer's binary is; Debian keeps some of them in /usr/sbin."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def fill(template, target, **values):
    """Writes a template with ``@NAME@`` replaced."""
    text = (CONF / template).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    target.write_text(text)
    return target


class Proxy:
    """One proxy; `start` gives it a folder and ports of its own."""

    def __init__(self, name, binary, conf=None):
        self.name, self.binary, self.conf = name, binary, conf
        self.process, self.port, self.admin = None, None, None

    @property
    def envoy_like(self):
        return self.name in ("envoy", "nuncio")

    def plain(self, conf):
        """The same proxy with another configuration, whatever the scenario wants."""
        return Proxy(f"{self.name} {conf}", self.binary, conf)

    def command(self, conf, folder, upstream, certs):
        """The command line for a scenario's configuration, None when the proxy cannot do that."""
        common = {"LISTEN": self.port, "UPSTREAM": upstream, "DIR": folder}
        if conf == "tcp":
            if self.name == "nginx":  # Debian's light one has no streams
                return None
            if self.name == "haproxy":
                return [self.binary, "-db", "-f", fill("haproxy-tcp.cfg", folder / "haproxy.cfg", **common)]
            return self.envoy_command(fill("tcp.yaml", folder / "tcp.yaml", ADMIN=self.admin, **common))
        if self.name == "nginx":
            if conf == "h2h2":
                return None
            tls = NGINX_TLS.format(certs=certs) if conf == "tls" else ""
            option = {"h2h1": "http2", "tls": "ssl"}.get(conf, "")
            path = fill("nginx.conf", folder / "nginx.conf", TLS=tls, OPTION=option, **common)
            return [self.binary, "-p", folder, "-c", path]
        if self.name == "haproxy":
            tls = f"ssl crt {certs}/both.pem alpn h2,http/1.1"
            bind = {"h2h1": "proto h2", "h2h2": "proto h2", "tls": tls}.get(conf, "")
            server = "proto h2" if conf == "h2h2" else ""
            path = fill("haproxy.cfg", folder / "haproxy.cfg", BIND=bind, SERVER=server, **common)
            return [self.binary, "-db", "-f", path]
        tls = ENVOY_TLS % (certs, certs) if conf == "tls" else ""
        options = H2_UPSTREAM if conf == "h2h2" else ""
        retries, guards = (RETRIES, GUARDS) if conf == "guarded" else ("", "")
        values = {"TLS": tls, "OPTIONS": options + guards, "RETRIES": retries, "ADMIN": self.admin}
        path = fill("envoy.yaml", folder / "envoy.yaml", **values, **common)
        return self.envoy_command(path)

    def envoy_command(self, path):
        return [self.binary, "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]

    def start(self, conf, folder, upstream, certs):
        """Starts the proxy and waits until it listens; False when it cannot do the scenario."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.admin = process.free_ports(2)
        command = self.command(self.conf or conf, folder, upstream, certs)
        if command is None:
            return False
        self.launch(command, folder)
        return True

    def launch(self, command, folder, seconds=60):
        log = folder / "log"
        self.process = process.start(process.PROXY_CPU, command, log)
        try:
            process.wait_port(self.port, self.process, seconds)
            time.sleep(0.2)
        except RuntimeError as error:
            process.stop(self.process)
            raise RuntimeError(f"{self.name} {error}: {log.read_text(errors='replace')[-800:]}") from error

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process is not None:
            process.stop(self.process)


def find(names, nuncio):
    """The proxies called `names`, and a line for each that is not there."""
    binaries = {"envoy": os.environ["NUNCIO_BENCH_ENVOY"], "nuncio": nuncio}
    out, missing = [], []
    for name in names:
        binary = binaries.get(name) or which(name)
        if binary:
            out.append(Proxy(name, binary))
        else:
            missing.append(PACKAGES.get(name, name))
    return out, missing
