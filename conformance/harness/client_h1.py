"""The raw HTTP/1 client: sends the bytes of the case, records what comes back and how the connection ended."""
import socket
import ssl
import time

from . import certs, net
from .http1 import header, read_response
from .ports import HOST


def connect(env, options):
    """A connected socket to a listener of the proxy, over TLS when the step says so."""
    host = options.get("address", HOST)
    sock = socket.create_connection((host, env.ports[options.get("listener", "l0")]), 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tls = options.get("tls")
    if tls is None:
        return sock, None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if tls.get("alpn"):
        context.set_alpn_protocols(tls["alpn"])
    if tls.get("certificate"):
        context.load_cert_chain(env.certs / f"{tls['certificate']}.pem", env.certs / f"{tls['certificate']}.key")
    sock = context.wrap_socket(sock, server_hostname=tls.get("sni"))
    facts = {
        "version": sock.version(),
        "alpn": sock.selected_alpn_protocol(),
        "certificate": certs.name_of(env.certs, sock.getpeercert(True)),
    }
    return sock, facts


def request_bytes(op):
    """The bytes of ``{get: /path}`` or ``{request: {...}}``."""
    if "get" in op:
        op = {"request": {"path": op["get"], "headers": op.get("headers", [])}}
    req = op["request"]
    body = req.get("body", "").encode("latin1")
    lines = [f"{req.get('method', 'GET')} {req.get('path', '/')} HTTP/1.1"]
    if req.get("host", "a.example") is not None:
        lines.append(f"host: {req.get('host', 'a.example')}")
    lines += req.get("headers", [])
    if body and not header(lines[1:], "transfer-encoding") and not header(lines[1:], "content-length"):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin1") + body


def run(env, ops, options):
    """Plays `ops` on one connection. A request op implies one response to read, a `send` does not."""
    try:
        sock, facts = connect(env, options)
    except (OSError, ssl.SSLError) as error:
        return {"connect": type(error).__name__}
    reader = net.Reader(sock)
    seen = []
    try:
        for op in ops:
            play(env, sock, reader, op, seen, options)
    except (OSError, ssl.SSLError):
        seen.append("could not send")
    record = {"seen": seen, "end": fate(reader, seen, options)}
    if reader.buffer:
        record["rest"] = net.latin(reader.buffer)
    if facts:
        record["tls"] = facts
    sock.close()
    return record


def fate(reader, seen, options):
    """How the connection stands after the last op; a promised close is waited for longer."""
    last = seen[-1] if seen and isinstance(seen[-1], dict) else {}
    promised = header(last.get("headers", []), "connection") == "close" or last.get("incomplete")
    return reader.ended(2 if promised else options.get("linger", 0.15))


def play(env, sock, reader, op, seen, options):
    timeout = options.get("timeout", 5)
    if isinstance(op, str):
        op = {op: True}
    if "send" in op:
        # At once, so that the proxy finds all of it: what comes after an answer is another matter.
        text = op.get("head", "") + op["send"] * op.get("times", 1) + op.get("tail", "")
        sock.sendall(text.encode("latin1"))
    elif "get" in op or "request" in op:
        sock.sendall(request_bytes(op))
        method = op.get("request", {}).get("method", "GET")
        if op.get("recv", True):
            seen.append(read_response(reader, method, timeout))
    elif "recv" in op:
        method = op["recv"] if isinstance(op["recv"], str) else "GET"
        seen.append(read_response(reader, method, timeout))
    elif "read" in op:
        seen.append({"bytes": net.latin(reader.quiet(op["read"]))})
    elif "sleep" in op:
        time.sleep(op["sleep"])
    elif "wait_up" in op:
        env.wait_up(op["wait_up"])
    elif "shutdown" in op:
        sock.shutdown(socket.SHUT_WR)
    elif "reset" in op:
        net.reset(sock)
        reader.fate = "we reset"
    elif "close" in op:
        sock.close()
        reader.fate = "we closed"
    else:
        raise ValueError(f"h1: unknown op {op}")
