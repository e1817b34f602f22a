"""A configuration of 10,000 clusters and 10,000 routes: loading it, living with it, asking for its stats."""
import http.client
import subprocess
import sys
import time

from . import process
from .proxies import fill

CLUSTERS = 10_000
SETTLE_SECONDS = 6

ROUTE = """              - match:
                  prefix: "/service/{i}/"
                  headers:
                  - name: x-not-for-service-{i}
                    present_match: true
                    invert_match: true
                route:
                  cluster: cluster_{i}
                  prefix_rewrite: "/"
                  timeout: 30s
                  retry_policy:
                    retry_on: connect-failure,refused-stream
                    num_retries: 2
                request_headers_to_add:
                - header: {{ key: x-route, value: "route-{i}" }}
                  append_action: OVERWRITE_IF_EXISTS_OR_ADD
"""
CLUSTER = """  - name: cluster_{i}
    type: STATIC
    connect_timeout: 1s
    lb_policy: ROUND_ROBIN
    metadata:
      filter_metadata:
        example.owner:
          team: team-{i}
          tier: "3"
    common_lb_config:
      healthy_panic_threshold: {{ value: 50 }}
    circuit_breakers:
      thresholds:
      - priority: DEFAULT
        max_connections: 2000
        max_pending_requests: 2000
        max_requests: 4000
    load_assignment:
      cluster_name: cluster_{i}
      endpoints:
      - locality: {{ region: eu, zone: eu-1 }}
        lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: 127.0.0.1
                port_value: {upstream}
"""


def write_config(folder, proxy, upstream):
    """The file, about 13 MB of YAML."""
    routes = "".join(ROUTE.format(i=i) for i in range(CLUSTERS))
    clusters = "".join(CLUSTER.format(i=i, upstream=upstream) for i in range(CLUSTERS))
    return fill("many.yaml", folder / "many.yaml", ADMIN=proxy.admin, LISTEN=proxy.port, ROUTES=routes, CLUSTERS=clusters)


def get(port, path):
    """(status, size of body, seconds) of one request."""
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    size = 0
    while block := answer.read(1 << 20):
        size += len(block)
    connection.close()
    return answer.status, size, time.monotonic() - begin


def measure(proxy, origin, folder):
    """One start of one proxy: everything the three scenarios print."""
    folder.mkdir(parents=True, exist_ok=True)
    proxy.port, proxy.admin = process.free_ports(2)
    path = write_config(folder, proxy, origin)
    begin = time.monotonic()
    proxy.launch(proxy.envoy_command(path), folder, seconds=180)
    try:
        status = get(proxy.port, f"/service/{CLUSTERS - 1}/x")[0]
        if status != 200:
            raise RuntimeError(f"{proxy.name}: the last route answered {status}")
        out = {
            "config_mb": path.stat().st_size / 1e6,
            "first_answer_s": time.monotonic() - begin,
            "load_cpu_s": process.cpu_us(proxy.pid) / 1e6,
            "peak_mb": process.memory_mb(proxy.pid, "VmHWM"),
        }
        time.sleep(SETTLE_SECONDS)
        out["rss_mb"] = process.memory_mb(proxy.pid)
        out.update(stats(proxy))
        return out
    finally:
        proxy.stop()


# Reads /stats in a process of its own, so that what it costs does not delay what is measured meanwhile.
READER = """
import http.client, sys, time
begin = time.monotonic()
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=120)
connection.request("GET", "/stats")
answer = connection.getresponse()
size = 0
while block := answer.read(1 << 20):
    size += len(block)
print(size, time.monotonic() - begin)
"""


def used_only(proxy):
    """Milliseconds on a CPU for `/stats?usedonly`: the median of five."""
    def one():
        before = process.cpu_us(proxy.pid)
        get(proxy.admin, "/stats?usedonly")
        return process.cpu_us(proxy.pid) - before

    return sorted(one() for _ in range(5))[2] / 1000


def stats(proxy):
    """What the stats cost, and whether the admin interface answers meanwhile."""
    used_only_ms = used_only(proxy)
    cpu = process.cpu_us(proxy.pid)
    reader = subprocess.Popen([sys.executable, "-c", READER, str(proxy.admin)], stdout=subprocess.PIPE, text=True)
    waits = []
    while reader.poll() is None:
        waits.append(get(proxy.admin, "/ready")[2])
        time.sleep(0.005)
    size, seconds = reader.communicate()[0].split()
    return {
        "usedonly_ms": used_only_ms,
        "stats_s": float(seconds),
        "stats_mb": int(size) / 1e6,
        "stats_cpu_s": (process.cpu_us(proxy.pid) - cpu) / 1e6,
        "ready_max_ms": max(waits, default=0) * 1000,
    }
