"""What is measured. A scenario's `conf` picks the configuration of the proxies (see ``proxies.py``)."""
from dataclasses import dataclass

SMALL, BIG = "/api/v1/items?id=42", "/big/file.bin"


@dataclass(frozen=True)
class Load:
    """A scenario that counts requests."""

    text: str
    conf: str
    tool: str
    connections: int
    streams: int = 1
    path: str = SMALL
    tls: bool = False
    close: bool = False
    # Requests a second, evenly spaced; 0: as many as possible.
    rate: int = 0
    # A configuration that Envoy and Nuncio are run with as well, to compare each with itself.
    beside: str = ""


LOADS = {
    "h1": Load("HTTP/1.1 both sides, 64 connections, 1 KiB", "h1", "wrk", 64),
    "h2h1": Load("HTTP/2 to HTTP/1.1, 10 connections x 32 streams, 1 KiB", "h2h1", "h2load", 10, 32),
    "h2h2": Load("HTTP/2 both sides, 10 connections x 32 streams, 1 KiB", "h2h2", "h2load", 10, 32),
    "tls-h1": Load("TLS 1.3 and HTTP/1.1, 64 connections, 1 KiB", "tls", "wrk", 64, tls=True),
    "tls-hs": Load("a full TLS 1.3 handshake for each request", "tls", "wrk", 32, tls=True, close=True),
    "h1-rate": Load("HTTP/1.1 both sides, 8,000 requests a second, evenly spaced", "h1", "pace", 64, rate=8000),
    "guarded": Load("h1, with retries, breakers and outlier detection that have nothing to do", "guarded", "wrk", 64, beside="h1"),
    "tcp-bulk": Load("the TCP proxy, 16 connections, 1 MiB at a time", "tcp", "wrk", 16, path=BIG),
    "tcp-new": Load("the TCP proxy, a new connection for each request, 1 KiB", "tcp", "wrk", 32, close=True),
    "big": Load("HTTP/1.1 both sides, 16 connections, 1 MiB", "h1", "wrk", 16, path=BIG),
}

OTHERS = {
    "idle-rss": "memory after start",
    "idle-conns": "memory per idle connection that has had a request",
    "load-10k": "loading 10,000 clusters and 10,000 routes: CPU time, time to the first answer, peak memory",
    "rss-10k-clusters": "memory with them, some seconds after loading",
    "checked-10k": "10,000 clusters of 10 hosts, health checks every 10 s on 1,000: main thread, memory, a change of one host",
    "stats-10k": "with them: /stats, /stats?usedonly, and /ready while /stats runs",
}

ALL = [*LOADS, *OTHERS]
SMOKE = ["h1", "h2h1"]

# About what a browser sends.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example.com/catalogue/",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
    "X-Client-Version": "2026.11.1",
}
