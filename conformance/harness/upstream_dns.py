"""The scripted name server (RFC 1035, UDP): A and AAAA from the case's `names`, everything else does not exist.

``names: {web.test: {a: [127.0.0.1], aaaa: ["::1"], ttl: 1}}``; a list of such answers is given in turn per record type, the
last one repeats; ``{rcode: 2}`` fails.
"""
import socket
import struct
import threading

from .ports import HOST

A, AAAA, IN = 1, 28, 1
NXDOMAIN = 3


def serve(upstream):
    """Binds the socket and answers until it is closed."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, upstream.port))
    threading.Thread(target=loop, args=(upstream, sock), daemon=True).start()
    return sock


def loop(upstream, sock):
    while True:
        try:
            query, peer = sock.recvfrom(4096)
            if not query:
                return
            sock.sendto(answer(upstream, query), peer)
        except (OSError, ValueError, struct.error, IndexError):
            if sock.fileno() < 0:
                return


def question(query):
    """(name, type, the question's bytes) of a query."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind, _ = struct.unpack("!HH", query[at + 1:at + 5])
    return ".".join(labels).lower(), kind, query[12:at + 5]


def answer(upstream, query):
    name, kind, asked = question(query)
    records = entry(upstream, name, kind)
    code = NXDOMAIN if records is None else records.get("rcode", 0)
    found = (records or {}).get({A: "a", AAAA: "aaaa"}.get(kind, ""), [])
    out = query[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(found), 0, 0) + asked
    for address in found:
        data = socket.inet_pton(socket.AF_INET if kind == A else socket.AF_INET6, address)
        out += struct.pack("!HHHIH", 0xC00C, kind, IN, records.get("ttl", 60), len(data)) + data
    return out


def entry(upstream, name, kind):
    """What the case says about a name, the next of a list."""
    found = upstream.spec.get("names", {}).get(name)
    if isinstance(found, list):
        return found[min(upstream.turn((name, kind)), len(found) - 1)]
    return found
