"""Memory at rest: after start, and for connections that wait."""
import socket
import time

from . import process


def start_all(proxies, origin, certs, folder):
    for proxy in proxies:
        if proxy.start("h1", folder / proxy.name, origin, certs):
            yield proxy
            proxy.stop()


def after_start(proxies, origin, certs, folder):
    """``idle-rss``: MiB two seconds after the start."""
    out = {}
    for proxy in start_all(proxies, origin, certs, folder):
        time.sleep(2)
        out[proxy.name] = {"rss_mb": process.memory_mb(proxy.pid)}
    return out


def connections(proxies, origin, certs, folder, count):
    """``idle-conns``: KiB for each of `count` connections, connected and after a request on each."""
    out = {}
    for proxy in start_all(proxies, origin, certs, folder):
        time.sleep(1)
        before = process.memory_mb(proxy.pid)
        socks = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(count)]
        time.sleep(1)
        connected = process.memory_mb(proxy.pid)
        bad = sum(not request(sock) for sock in socks)
        time.sleep(1.5)
        used = process.memory_mb(proxy.pid)
        for sock in socks:
            sock.close()
        out[proxy.name] = {
            "connected_kb": (connected - before) * 1024 / count,
            "after_request_kb": (used - before) * 1024 / count,
            "rss_mb": used,
            "errors": bad,
        }
    return out


def request(sock):
    """One request on an open connection; whether the answer was whole."""
    sock.settimeout(10)
    sock.sendall(b"GET /x HTTP/1.1\r\nhost: localhost\r\nuser-agent: idle\r\n\r\n")
    data = b""
    while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < 1024:
        more = sock.recv(65536)
        if not more:
            return False
        data += more
    return data.startswith(b"HTTP/1.1 200")
