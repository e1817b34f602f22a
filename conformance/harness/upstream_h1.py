"""The scripted HTTP/1 upstream."""
import time

from . import net
from .http1 import header, read_body, read_head

IDLE = 60


def serve(upstream, sock, number):
    reader = net.Reader(sock)
    while True:
        head = read_head(reader, time.monotonic() + IDLE)
        if head is None:
            return
        first, lines = head
        method, path = (first.split(" ") + [""])[:2]
        record, size = {"connection": number, "line": first, "headers": lines}, 0
        script = upstream.script(path)
        early = script is not None and script[0] == "early"
        if not early:
            if header(lines, "expect") == "100-continue":
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            framing, body, trailers, whole = read_body(reader, lines, time.monotonic() + IDLE, until_close=False)
            size = len(body)
            record.update(framing=framing, body=net.latin(body))
            if trailers:
                record["trailers"] = trailers
            if not whole:
                upstream.saw({**record, "incomplete": True})
                return
        upstream.saw(record)
        if script is None:
            body = f"{upstream.name} {method} {path} {size}"
            script = [{"respond": {"headers": [f"x-up: {upstream.name}"], "body": body}}]
        if not play(upstream, sock, reader, script[1:] if early else script, method, number):
            return


def play(upstream, sock, reader, script, method, number):
    """Runs the actions; False when the connection is over."""
    for action in script:
        if isinstance(action, str):
            action = {action: True}
        if "respond" in action:
            sock.sendall(response_bytes(action["respond"], method))
            if action["respond"].get("close") or action["respond"].get("until_close"):
                net.close(sock)
                return False
        elif "send" in action:
            sock.sendall(action["send"].encode("latin1") * action.get("times", 1))
        elif "sleep" in action:
            time.sleep(action["sleep"])
        elif "close" in action:
            net.close(sock)
            return False
        elif "reset" in action:
            net.reset(sock)
            return False
        elif "tunnel" in action:
            return tunnel(upstream, sock, reader, number)
        else:
            raise ValueError(f"upstream: unknown action {action}")
    return True


def response_bytes(spec, method):
    """One response; `chunked` is a list of chunks, otherwise there is a content-length unless `until_close`."""
    status = str(spec.get("status", 200))
    lines = [f"{spec.get('version', 'HTTP/1.1')} {status} {spec.get('reason', 'OK')}", *spec.get("headers", [])]
    body = spec.get("body", "").encode("latin1")
    if "chunked" in spec:
        lines.append("transfer-encoding: chunked")
        chunks = [chunk.encode("latin1") for chunk in spec["chunked"]]
        trailers = "".join(f"{line}\r\n" for line in spec.get("trailers", [])).encode("latin1")
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"
    elif not spec.get("until_close") and status not in ("204", "304") and not header(lines, "content-length"):
        lines.append(f"content-length: {len(body)}")
    if spec.get("close"):
        lines.append("connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("latin1")
    return head if method == "HEAD" else head + body


def tunnel(upstream, sock, reader, number):
    """After an upgrade: echoes with a prefix and records what came."""
    data = reader.buffer
    while True:
        data = data or sock.recv(65536)
        upstream.saw({"connection": number, "tunnel": net.latin(data)})
        if not data:
            return False
        sock.sendall(b"echo:" + data)
        data = b""
