"""10,000 clusters of 10 hosts, 1,000 of them with health checks: what the checks cost, and what a change of one host does."""
import json
import re
import time
import urllib.request

from . import process
from .proxies import fill

CLUSTERS, CHECKED, HOSTS = 10_000, 1_000, 10
INTERVAL = 10
MEASURED = 3 * INTERVAL
CHANGES = 20

CLUSTER = """  - name: cluster_{i}
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: cluster_{i}
      endpoints: [{{ lb_endpoints: [{hosts}] }}]{checks}
"""
HOST = "{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.{n}, port_value: {port} }} }} }} }}"
# The first checks are spread, as the later ones are then. Nobody sends requests: that interval counts.
CHECKS = f"""
    health_checks:
    - timeout: 5s
      interval: {INTERVAL}s
      no_traffic_interval: {INTERVAL}s
      initial_jitter: {INTERVAL}s
      unhealthy_threshold: 3
      healthy_threshold: 1
      http_health_check: {{ path: /healthz }}"""


def write_config(folder, proxy, origin):
    hosts = ", ".join(HOST.format(n=n + 1, port=origin) for n in range(HOSTS))
    clusters = "".join(
        CLUSTER.format(i=i, hosts=hosts, checks=CHECKS if i < CHECKED else "") for i in range(CLUSTERS)
    )
    values = {"ADMIN": proxy.admin, "LISTEN": proxy.port, "HOSTS": folder / "hosts.json", "CLUSTERS": clusters}
    return fill("checked.yaml", folder / "checked.yaml", **values)


def write_hosts(folder, origin, count):
    """The hosts of the cluster that changes, moved into place."""
    address = lambda n: {"socket_address": {"address": f"127.0.0.{n + 1}", "port_value": origin}}
    hosts = [{"endpoint": {"address": address(n)}} for n in range(count)]
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    one = {"@type": kind, "cluster_name": "changing", "endpoints": [{"lb_endpoints": hosts}]}
    new = folder / "new"
    new.write_text(json.dumps({"version_info": f"{count}-{time.monotonic_ns()}", "resources": [one]}))
    new.rename(folder / "hosts.json")


def stat(proxy, name):
    """One stat, asked for with a filter."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin}/stats?filter=^{re.escape(name)}$", timeout=120) as answer:
        found = re.search(r": (\d+)", answer.read().decode())
    return int(found[1]) if found else 0


def wait_for(what, seconds):
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def measure(proxy, origin, folder):
    """One start of one proxy."""
    folder.mkdir(parents=True, exist_ok=True)
    proxy.port, proxy.admin = process.free_ports(2)
    write_hosts(folder, origin, HOSTS)
    path = write_config(folder, proxy, origin)
    proxy.launch(proxy.envoy_command(path), folder, seconds=180)
    try:
        load_cpu = process.cpu_us(proxy.pid)
        time.sleep(1.5 * INTERVAL)  # every host has been checked
        attempts = lambda: stat(proxy, f"cluster.cluster_{CHECKED - 1}.health_check.attempt")
        before, memory = attempts(), (process.memory_mb(proxy.pid), process.memory_mb(proxy.pid, "VmHWM"))
        (main, all_threads), began = cpus(proxy), time.monotonic()
        time.sleep(MEASURED)
        (main_after, all_after), seconds = cpus(proxy), time.monotonic() - began
        checks = attempts() - before
        healthy = sum(stat(proxy, f"cluster.cluster_{i}.membership_healthy") for i in (0, CHECKED // 2, CHECKED - 1))
        return {
            "main_percent": (main_after - main) / seconds / 1e4, "all_percent": (all_after - all_threads) / seconds / 1e4,
            "rss_mb": memory[0], "peak_mb": memory[1], "load_cpu_s": load_cpu / 1e6, "checks_per_host": checks / HOSTS,
            "change_us": change(proxy, origin, folder, (main_after - main) / seconds), "errors": 3 * HOSTS - healthy,
        }
    finally:
        proxy.stop()


def cpus(proxy):
    """Microseconds on a CPU: of the main thread, of all."""
    return process.main_cpu_us(proxy.pid), process.cpu_us(proxy.pid)


def change(proxy, origin, folder, background):
    """Microseconds of the main thread for one host that comes or goes, beyond what it does anyway."""
    used, seconds = 0, 0
    updates = lambda: stat(proxy, "cluster.changing.update_success")
    for turn in range(CHANGES):
        seen = updates()
        before, began = process.main_cpu_us(proxy.pid), time.monotonic()
        write_hosts(folder, origin, HOSTS - 1 + turn % 2)
        time.sleep(0.2)
        used, seconds = used + process.main_cpu_us(proxy.pid) - before, seconds + time.monotonic() - began
        if not wait_for(lambda: updates() > seen, 10):
            raise RuntimeError(f"{proxy.name} has not heard of a change of hosts")
    return max(0, used - background * seconds) / CHANGES
