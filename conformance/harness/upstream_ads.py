"""A scripted control plane: ADS over gRPC, state of the world and delta, on the frames of `http2`.

``resources: {CDS: {name: <message>}, EDS: …}`` is what it knows (of VHDS a message may hold ``aliases``; one with nothing else
says that there is no such resource); the step ``resource: {upstream, kind, name, to}`` changes one (``to: null`` removes it) and pushes the kind to every stream that has asked for it. With ``raw: <kind>`` it pushes the
bytes of ``text`` instead of a response. What it notes is the requests: type, version, nonce, names, refusal.
"""
import re
import time

from google.protobuf import json_format, message_factory
from hyperframe import frame as frames

from . import http2, net
from .config import expand

IDLE = 60
PREFIX = "type.googleapis.com/"
KINDS = {
    "CDS": "envoy.config.cluster.v3.Cluster",
    "EDS": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "LDS": "envoy.config.listener.v3.Listener",
    "RDS": "envoy.config.route.v3.RouteConfiguration",
    "SDS": "envoy.extensions.transport_sockets.tls.v3.Secret",
    "RTDS": "envoy.service.runtime.v3.Runtime",
    "SRDS": "envoy.config.route.v3.ScopedRouteConfiguration",
    "VHDS": "envoy.config.route.v3.VirtualHost",
    "ECDS": "envoy.config.core.v3.TypedExtensionConfig",
}
MODULES = """
envoy.service.discovery.v3.discovery envoy.config.cluster.v3.cluster envoy.config.endpoint.v3.endpoint
envoy.config.listener.v3.listener envoy.config.route.v3.route envoy.config.route.v3.scoped_route envoy.service.runtime.v3.rtds
envoy.extensions.transport_sockets.tls.v3.tls envoy.extensions.transport_sockets.tls.v3.secret
envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager
envoy.extensions.filters.http.router.v3.router envoy.extensions.access_loggers.file.v3.file
envoy.extensions.upstreams.http.v3.http_protocol_options envoy.extensions.filters.http.header_mutation.v3.header_mutation
envoy.extensions.filters.http.on_demand.v3.on_demand envoy.config.core.v3.extension
envoy.service.load_stats.v3.lrs envoy.service.accesslog.v3.als envoy.extensions.filters.listener.http_inspector.v3.http_inspector envoy.extensions.filters.network.rbac.v3.rbac
envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy
"""


def message(name):
    """The class of a message of Envoy's API."""
    import importlib

    from google.protobuf import descriptor_pool

    for module in MODULES.split():
        importlib.import_module(module + "_pb2")
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def short(url):
    names = {PREFIX + name: kind for kind, name in KINDS.items()}
    return names.get(url, url)


class Resources:
    """What a control plane knows, and who is told of changes."""

    def __init__(self, spec, names):
        known = spec.get("resources", {})
        self.names = names
        self.known = {kind: {name: self.made(kind, tree) for name, tree in (all_of_them or {}).items()}
                      for kind, all_of_them in known.items()}
        self.versions, self.streams, self.loads, self.logs = {}, [], spec.get("loads", {}), spec.get("logs", {})

    def made(self, kind, tree):
        made = message(KINDS[kind])()
        known = dict(tree)
        aliases = known.pop("aliases", None)
        json_format.ParseDict(expand(known, self.names), made)
        if aliases is not None:
            wrapped = message("envoy.service.discovery.v3.Resource")(aliases=aliases)
            if known:
                wrapped.resource.Pack(made)
            return wrapped
        return made

    def set(self, kind, name, tree):
        if tree is None:
            self.known.get(kind, {}).pop(name, None)
        else:
            self.known.setdefault(kind, {})[name] = self.made(kind, tree)
        self.versions[kind] = self.versions.get(kind, 1) + 1
        for stream in self.streams:
            stream.push(kind)

    def version(self, kind):
        return str(self.versions.get(kind, 1))


def serve(upstream, sock, number):
    reader = net.Reader(sock)
    deadline = time.monotonic() + IDLE
    if reader.exactly(len(http2.PREFACE), deadline) != http2.PREFACE:
        upstream.saw({"connection": str(number), "preface": "wrong"})
        return
    connection = http2.Connection(reader)
    connection.settings()
    streams = {}
    try:
        while True:
            frame = connection.read(time.monotonic() + IDLE)
            if frame is None:
                return
            if hasattr(frame, "lines"):
                path = dict(http2.pairs(frame.lines)).get(":path", "")
                from .upstream_als import Logs  # it needs this module

                kind = Logs if "AccessLog" in path else Loads if "LoadReporting" in path else Delta if path.rsplit("/", 1)[-1].startswith("Delta") else Sotw
                # Only within a stream is the order the proxy's doing.
                place = f"{number} {path}"
                streams[frame.stream_id] = kind(upstream, connection, frame.stream_id, place)
                upstream.saw({"connection": place, "method": path})
            elif isinstance(frame, frames.DataFrame) and frame.stream_id in streams:
                streams[frame.stream_id].take(frame.data)
    except OSError:
        return
    finally:
        for stream in streams.values():
            upstream.resources.streams.remove(stream)


class Stream:
    """One call: requests come in, responses go out."""

    def __init__(self, upstream, connection, stream, place):
        self.upstream, self.connection, self.stream, self.place = upstream, connection, stream, place
        self.resources, self.buffer, self.nonces = upstream.resources, b"", {}
        self.resources.streams.append(self)
        connection.headers(stream, [":status: 200", "content-type: application/grpc"])

    def take(self, data):
        self.buffer += data
        while len(self.buffer) >= 5:
            size = int.from_bytes(self.buffer[1:5], "big")
            if len(self.buffer) < 5 + size:
                return
            one, self.buffer = self.buffer[5:5 + size], self.buffer[5 + size:]
            self.asked(one)

    def send(self, response):
        data = response if isinstance(response, bytes) else response.SerializeToString()
        self.connection.data(self.stream, b"\0" + len(data).to_bytes(4, "big") + data)

    def end(self, status):
        self.connection.headers(self.stream, [f"grpc-status: {status}"], end=True)

    def nonce(self, kind):
        self.nonces[kind] = self.nonces.get(kind, 0) + 1
        return f"{kind}-{self.nonces[kind]}"

    def note(self, request, record):
        record = {"connection": self.place, **record, "node": request.node.id}
        if request.HasField("error_detail"):
            # What is refused is compared, our words for it are our own.
            record["nack"] = bool(re.search(r"\w", request.error_detail.message))
        self.upstream.saw(record)


class Sotw(Stream):
    """State of the world."""

    def __init__(self, *args):
        self.wanted = {}
        super().__init__(*args)

    def response(self, kind):
        made = message("envoy.service.discovery.v3.DiscoveryResponse")()
        made.version_info, made.type_url = self.resources.version(kind), PREFIX + KINDS[kind]
        made.nonce = self.nonce(kind)
        known = self.resources.known.get(kind, {})
        for name in self.wanted[kind] or known:
            if name in known:
                made.resources.add().Pack(known[name])
        return made

    def push(self, kind):
        if kind in self.wanted:
            self.send(self.response(kind))

    def asked(self, data):
        request = message("envoy.service.discovery.v3.DiscoveryRequest").FromString(data)
        kind, names = short(request.type_url), sorted(request.resource_names)
        self.note(request, {"type": kind, "version": request.version_info, "nonce": request.response_nonce, "names": names})
        fresh = kind not in self.wanted or (self.wanted[kind] != names and not request.HasField("error_detail"))
        self.wanted[kind] = names
        if kind in KINDS and fresh and (names or kind in ("CDS", "LDS")):
            self.send(self.response(kind))


class Delta(Stream):
    """Changes only."""

    def __init__(self, *args):
        self.wanted, self.sent = {}, {}
        super().__init__(*args)

    def response(self, kind, force=False):
        known, sent = self.resources.known.get(kind, {}), self.sent.setdefault(kind, {})
        wanted = self.wanted[kind]
        made = message("envoy.service.discovery.v3.DeltaDiscoveryResponse")()
        made.type_url, made.system_version_info = PREFIX + KINDS[kind], self.resources.version(kind)
        for name in sorted(known if "*" in wanted else wanted & set(known)):
            if sent.get(name) != known[name]:
                one = made.resources.add()
                if known[name].DESCRIPTOR.name == "Resource":
                    one.CopyFrom(known[name])
                else:
                    one.resource.Pack(known[name])
                one.name, one.version = name, self.resources.version(kind)
                sent[name] = type(known[name]).FromString(known[name].SerializeToString())
        gone = sorted(name for name in sent if name not in known)
        made.removed_resources.extend(gone)
        for name in gone:
            del sent[name]
        if not made.resources and not gone and not force:
            return None
        made.nonce = self.nonce(kind)
        return made

    def push(self, kind):
        if kind in self.wanted:
            response = self.response(kind)
            if response is not None:
                self.send(response)

    def asked(self, data):
        request = message("envoy.service.discovery.v3.DeltaDiscoveryRequest").FromString(data)
        kind = short(request.type_url)
        add, remove = sorted(request.resource_names_subscribe), sorted(request.resource_names_unsubscribe)
        known = dict(sorted(request.initial_resource_versions.items()))
        self.note(request, {"type": kind, "nonce": request.response_nonce, "add": add, "remove": remove, "known": known})
        first = kind not in self.wanted
        wanted = self.wanted.setdefault(kind, set())
        wanted.update(add)
        wanted.difference_update(remove)
        if first and not add and kind != "VHDS":
            wanted.add("*")
        for name in remove:
            self.sent.get(kind, {}).pop(name, None)
        if first:
            for name, version in known.items():
                there = self.resources.known.get(kind, {})
                if version == self.resources.version(kind) and name in there:
                    self.sent.setdefault(kind, {})[name] = there[name]
        if kind in KINDS and (first or add):
            response = self.response(kind, first)
            if response is not None:
                self.send(response)


class Loads(Stream):
    """Load reports: ``loads: {until, …}`` is the response to the first request; what all reports add up to is noted once `until` requests
    were answered."""

    def __init__(self, *args):
        self.sums, self.said = {}, False
        super().__init__(*args)

    def push(self, kind):
        pass

    def asked(self, data):
        request = message("envoy.service.load_stats.v3.LoadStatsRequest").FromString(data)
        wish = dict(self.resources.loads)
        until = wish.pop("until")
        if not self.said:
            self.said = True
            self.upstream.saw({"connection": self.place, "node": request.node.id, "features": list(request.node.client_features)})
            response = message("envoy.service.load_stats.v3.LoadStatsResponse")()
            self.send(json_format.ParseDict(wish, response))
        for cluster in request.cluster_stats:
            self.add(f"{cluster.cluster_name} {cluster.cluster_service_name}", dropped=cluster.total_dropped_requests)
            for one in cluster.upstream_locality_stats:
                name = f"{cluster.cluster_name} {one.priority} {one.locality.region}/{one.locality.zone}"
                self.add(name, success=one.total_successful_requests, error=one.total_error_requests,
                         issued=one.total_issued_requests, endpoints=len(one.upstream_endpoint_stats) > 0)
        if until is not None and sum(s.get("success", 0) + s.get("error", 0) for s in self.sums.values()) >= until > 0:
            self.upstream.saw({"connection": self.place, "loads": dict(sorted(self.sums.items()))})
            self.sums, self.resources.loads = {}, {**self.resources.loads, "until": 0}

    def add(self, name, **counts):
        mine = self.sums.setdefault(name, {})
        for key, n in counts.items():
            mine[key] = max(mine.get(key, n), n) if isinstance(n, bool) else mine.get(key, 0) + n


def change(env, spec):
    """The step ``resource``."""
    upstream = env.upstreams[spec["upstream"]]
    if "raw" in spec:
        for stream in list(upstream.resources.streams):
            stream.send(spec["raw"].encode("latin1"))
    elif "end" in spec:
        for stream in list(upstream.resources.streams):
            stream.end(spec["end"])
    else:
        upstream.resources.set(spec["kind"], spec["name"], spec.get("to"))
