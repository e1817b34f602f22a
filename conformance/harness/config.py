"""From a case's short ``config`` to the bootstrap file that both proxies read.

``config`` is either a string (the file, verbatim), ``{full: <bootstrap>}``, or a few parts that are filled into the
usual bootstrap: one admin listener, one listener ``l0`` with an HTTP connection manager, a route of ``/`` to the
first upstream (or a direct response when there is none), and a STATIC cluster for every upstream. An ``@type`` without
a slash is one of ALIASES.
"""
import re

import yaml

from .case import merge_patch

PREFIX = "type.googleapis.com/envoy."
ALIASES = {
    "HttpConnectionManager": "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "Router": "extensions.filters.http.router.v3.Router",
    "HeaderMutation": "extensions.filters.http.header_mutation.v3.HeaderMutation",
    "HealthCheck": "extensions.filters.http.health_check.v3.HealthCheck",
    "Cors": "extensions.filters.http.cors.v3.Cors",
    "CorsPolicy": "extensions.filters.http.cors.v3.CorsPolicy",
    "HTTPFault": "extensions.filters.http.fault.v3.HTTPFault",
    "Buffer": "extensions.filters.http.buffer.v3.Buffer",
    "BufferPerRoute": "extensions.filters.http.buffer.v3.BufferPerRoute",
    "LocalRateLimit": "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    "RBAC": "extensions.filters.http.rbac.v3.RBAC",
    "RBACPerRoute": "extensions.filters.http.rbac.v3.RBACPerRoute",
    "CsrfPolicy": "extensions.filters.http.csrf.v3.CsrfPolicy",
    "HeaderToMetadata": "extensions.filters.http.header_to_metadata.v3.Config",
    "SetMetadata": "extensions.filters.http.set_metadata.v3.Config",
    "SetFilterState": "extensions.filters.http.set_filter_state.v3.Config",
    "GrpcStats": "extensions.filters.http.grpc_stats.v3.FilterConfig",
    "GrpcWeb": "extensions.filters.http.grpc_web.v3.GrpcWeb",
    "GrpcHttp1Bridge": "extensions.filters.http.grpc_http1_bridge.v3.Config",
    "Compressor": "extensions.filters.http.compressor.v3.Compressor",
    "CompressorPerRoute": "extensions.filters.http.compressor.v3.CompressorPerRoute",
    "Decompressor": "extensions.filters.http.decompressor.v3.Decompressor",
    "BasicAuth": "extensions.filters.http.basic_auth.v3.BasicAuth",
    "BasicAuthPerRoute": "extensions.filters.http.basic_auth.v3.BasicAuthPerRoute",
    "BandwidthLimit": "extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
    "FileAccessLog": "extensions.access_loggers.file.v3.FileAccessLog",
    "StdoutAccessLog": "extensions.access_loggers.stream.v3.StdoutAccessLog",
    "StderrAccessLog": "extensions.access_loggers.stream.v3.StderrAccessLog",
    "HttpProtocolOptions": "extensions.upstreams.http.v3.HttpProtocolOptions",
    "DownstreamTlsContext": "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "UpstreamTlsContext": "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "CaresDnsResolverConfig": "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    "ForwardProxy": "extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    "ForwardProxyPerRoute": "extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig",
    "SniForwardProxy": "extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
    "ForwardCluster": "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
    "TlsInspector": "extensions.filters.listener.tls_inspector.v3.TlsInspector",
}
PARTS = {"routes", "virtual_hosts", "filters", "hcm", "listener", "listeners", "clusters", "bootstrap", "access_log"}

# Every field that says why a request ended as it did; typed and sorted by the proxy itself.
LOG_FIELDS = {
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "termination": "%CONNECTION_TERMINATION_DETAILS%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "host": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "transport_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_protocol": "%UPSTREAM_PROTOCOL%",
    "grpc": "%GRPC_STATUS%",
}


class Dumper(yaml.SafeDumper):
    """Envoy reads a bare ``y`` or ``n`` as a boolean, PyYAML does not: quote them."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))


def socket_address(port, host="127.0.0.1"):
    return {"socket_address": {"address": host, "port_value": port}}


def any_config(name, alias, **fields):
    return {"name": name, "typed_config": {"@type": alias, **fields}}


def default_cluster(name, upstream):
    host = {"endpoint": {"address": socket_address("${" + name + "}")}}
    cluster = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [host]}]},
    }
    if upstream.get("cluster_protocol", upstream.get("protocol")) in ("h2", "ads"):
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def access_log(form):
    """``json`` (default), ``default`` (Envoy's own format), ``none``, or the ``log_format`` itself."""
    if form == "none":
        return []
    fields = {"path": "${dir}/access.log"}
    if form == "json":
        fields["log_format"] = {"json_format": LOG_FIELDS}
    elif form != "default":
        fields["log_format"] = form
    return [any_config("envoy.access_loggers.file", "FileAccessLog", **fields)]


def servers(upstreams):
    """The upstreams that get a cluster by themselves: all but name servers and further addresses of another."""
    all_of_them = {name: up or {} for name, up in upstreams.items()}
    return {name: up for name, up in all_of_them.items() if up.get("protocol") != "dns" and "port_of" not in up}


def connection_manager(parts, upstreams):
    first = next(iter(servers(upstreams)), None)
    action = {"route": {"cluster": first}}
    if first is None:
        action = {"direct_response": {"status": 200, "body": {"inline_string": "hi"}}}
    routes = parts.get("routes") or [{"match": {"prefix": "/"}, **action}]
    hosts = parts.get("virtual_hosts") or [{"name": "v", "domains": ["*"], "routes": routes}]
    router = any_config("envoy.filters.http.router", "Router")
    hcm = {
        "@type": "HttpConnectionManager",
        "stat_prefix": "t",
        "codec_type": "AUTO",
        "delayed_close_timeout": "0.05s",
        "route_config": {"name": "rc", "virtual_hosts": hosts},
        "http_filters": [*parts.get("filters", []), router],
        "access_log": access_log(parts.get("access_log", "json")),
    }
    hcm = merge_patch(hcm, parts.get("hcm", {}))
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}


def bootstrap(parts, upstreams):
    """The bootstrap as a tree, with ``${…}`` still in it."""
    unknown = set(parts) - PARTS
    if unknown:
        raise ValueError(f"config: unknown part {sorted(unknown)}")
    listener = {
        "name": "l0",
        "address": socket_address("${l0}"),
        "filter_chains": [{"filters": [connection_manager(parts, upstreams)]}],
    }
    clusters = {name: default_cluster(name, up) for name, up in servers(upstreams).items()}
    clusters = merge_patch(clusters, parts.get("clusters", {}))
    tree = {
        "node": {"id": "node0", "cluster": "cl0"},
        "admin": {"address": socket_address("${admin}")},
        "static_resources": {
            "listeners": parts.get("listeners") or [chain_merge(listener, parts.get("listener", {}))],
            "clusters": [{"name": name, **cluster} for name, cluster in clusters.items()],
        },
    }
    return merge_patch(tree, parts.get("bootstrap", {}))


def chain_merge(listener, patch):
    """Merges a listener; ``chain`` stands for the one filter chain."""
    patch = dict(patch)
    chain = patch.pop("chain", {})
    listener["filter_chains"] = [merge_patch(listener["filter_chains"][0], chain)]
    return merge_patch(listener, patch)


def expand(value, names):
    """Replaces ``${name}`` by what `names` (a function) says, a whole value keeping its type; resolves ALIASES."""
    if isinstance(value, dict):
        return {key: expand_type(key, item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, names) for item in value]
    if isinstance(value, str):
        whole = re.fullmatch(r"\$\{(\w+)\}", value)
        return names(whole[1]) if whole else expand_text(value, names)
    return value


def expand_type(key, item, names):
    if key == "@type" and isinstance(item, str) and "/" not in item:
        return PREFIX + ALIASES.get(item, item)
    return expand(item, names)


def expand_text(text, names):
    return re.sub(r"\$\{(\w+)\}", lambda match: str(names(match[1])), text)


def render(config, upstreams, names):
    """The text of the configuration file."""
    if isinstance(config, str):
        return expand_text(config, names)
    return dump(config["full"] if "full" in config else bootstrap(config, upstreams), names)


def dump(tree, names):
    """A tree as YAML, expanded."""
    return yaml.dump(expand(tree, names), Dumper=Dumper, sort_keys=False, width=1000)
