"""Scripted upstreams. ``UPSTREAMS`` maps the protocol of a case's upstream to the function that serves a connection.

``dead`` does not listen, ``full`` never completes a connection, ``dns`` is a name server, ``ads`` a control plane.

A script is looked up by the longest matching path prefix and is a response mapping (``status``, ``headers``, ``body``,
``chunked``, ``trailers``, ``close``), a list of actions, or ``{sequence: [...]}`` of either (the last one repeats).
"""
import socket
import threading

from . import net, upstream_dns, upstream_h1, upstream_h2
from .ports import HOST

RESPONSE_KEYS = {"status", "reason", "version", "headers", "body", "chunked", "trailers", "close", "until_close"}


class Upstream:
    """One listening upstream and what it saw."""

    def __init__(self, name, spec, port, names=None):
        self.name, self.spec, self.port = name, spec or {}, port
        self.protocol = self.spec.get("protocol", "h1")
        self.seen, self.connections, self.counts = [], [], {}
        self.mutex = threading.Lock()
        self.socket = None
        if self.protocol == "ads":
            from . import upstream_ads  # what it needs takes half a second to load

            self.resources = upstream_ads.Resources(self.spec, names)
        if self.protocol == "dns":
            self.socket = upstream_dns.serve(self)
        elif self.protocol != "dead":
            self.listen()

    def listen(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((self.spec.get("address", HOST), self.port))
        if self.protocol == "full":
            self.fill()
            return
        self.socket.listen(128)
        threading.Thread(target=self.accept, daemon=True).start()

    def fill(self):
        """A full accept queue: the kernel drops further connection attempts, so that they time out."""
        self.socket.listen(0)
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((HOST, self.port))
            self.connections.append(sock)

    def accept(self):
        while True:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.append(sock)
            number = len(self.connections)
            threading.Thread(target=self.serve, args=(sock, number), daemon=True).start()

    def serve(self, sock, number):
        try:
            PROTOCOLS[self.protocol](self, sock, number)
        except (OSError, ValueError):
            pass
        finally:
            sock.close()

    def saw(self, record):
        if self.spec.get("record", True):
            with self.mutex:
                self.seen.append(record)

    def turn(self, key):
        """How often `key` was asked for before."""
        with self.mutex:
            turn = self.counts.get(key, 0)
            self.counts[key] = turn + 1
            return turn

    def script(self, path):
        """The list of actions for a request to `path`; None for the default answer."""
        paths = self.spec.get("paths", {})
        key = max((prefix for prefix in paths if path.startswith(prefix)), key=len, default=None)
        if key is None:
            return None
        found = paths[key]
        if isinstance(found, dict) and "sequence" in found:
            found = found["sequence"][min(self.turn(key), len(found["sequence"]) - 1)]
        if isinstance(found, dict) and (not found or set(found) <= RESPONSE_KEYS):
            return [{"respond": found}]
        return found if isinstance(found, list) else [found]

    def stop(self):
        for sock in [self.socket, *self.connections]:
            if sock is not None:
                net.close(sock)


def serve_tcp(upstream, sock, number):
    """Echoes with the upstream's name in front."""
    while True:
        data = sock.recv(65536)
        upstream.saw({"connection": number, "data": net.latin(data)})
        if not data:
            return
        sock.sendall(upstream.name.encode() + b":" + data)


def serve_ads(upstream, sock, number):
    from . import upstream_ads

    upstream_ads.serve(upstream, sock, number)


PROTOCOLS = {"h1": upstream_h1.serve, "h2": upstream_h2.serve, "tcp": serve_tcp, "ads": serve_ads}
