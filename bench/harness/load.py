"""Driving wrk and h2load, and measuring a proxy meanwhile."""
import http.client
import os
import re
import ssl
import subprocess
import time

from . import process
from .scenarios import BIG, HEADERS, SMALL

# Where `pace` is.
PACE = None

WRK_REPORT = """done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status))
end
"""


def header_arguments(scenario):
    headers = dict(HEADERS, **({"Connection": "close"} if scenario.close else {}))
    return [part for key, value in headers.items() for part in ("-H", f"{key}: {value}")]


def on_load_cpu(command):
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {process.LOAD_CPU}),
    )
    return done.stdout + done.stderr


def wrk(scenario, url, seconds, folder):
    report = folder / "report.lua"
    report.write_text(WRK_REPORT)
    command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "-s", str(report)]
    text = on_load_cpu([*command, *header_arguments(scenario), url])
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    if not found:
        raise RuntimeError("wrk: " + text[-500:])
    requests, micros, size, p50, p99, errors = map(int, found.groups())
    return {"requests": requests, "seconds": micros / 1e6, "bytes": size, "p50_us": p50, "p99_us": p99, "errors": errors}


def h2load(scenario, url, seconds, folder):
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    shape = [f"-c{scenario.connections}", f"-m{scenario.streams}"]
    command = ["h2load", "-t1", *shape, "-D", str(seconds), f"--log-file={log}"]
    text = on_load_cpu([*command, *header_arguments(scenario), url])
    done = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", text)
    good = re.search(r"status codes: (\d+) 2xx", text)
    traffic = re.search(r"traffic: .*?\((\d+)\) total", text)
    if not (done and good and traffic):
        raise RuntimeError("h2load: " + text[-500:])
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines() if line.count("\t") >= 2)
    rank = lambda share: times[min(len(times) - 1, int(len(times) * share))] if times else 0
    return {
        "requests": int(done[2]), "seconds": seconds, "bytes": int(traffic[1]), "p50_us": rank(0.5), "p99_us": rank(0.99),
        # When the time is up, h2load may have counted an answer whose request it does not count as done.
        "errors": max(0, int(done[1]) - int(good[1])),
    }


def pace(scenario, port, seconds):
    headers = [f"{key}: {value}" for key, value in HEADERS.items()]
    shape = [port, scenario.rate, seconds, scenario.connections, scenario.path]
    text = on_load_cpu([str(part) for part in (PACE, *shape, *headers)])
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    if not found:
        raise RuntimeError("pace: " + text[-500:])
    requests, micros, size, p50, p99, errors = map(int, found.groups())
    return {"requests": requests, "seconds": micros / 1e6, "bytes": size, "p50_us": p50, "p99_us": p99, "errors": errors}


def drive(scenario, port, seconds, folder):
    """Loads the proxy at `port` and returns what the tool counted."""
    if scenario.tool == "pace":
        return pace(scenario, port, seconds)
    url = f"{'https' if scenario.tls else 'http'}://127.0.0.1:{port}{scenario.path}"
    return (wrk if scenario.tool == "wrk" else h2load)(scenario, url, seconds, folder)


def measured(scenario, proxy, seconds, folder):
    """One round: what the tool counted, and what the proxy used for it."""
    cpu, (user, system) = process.cpu_us(proxy.pid), process.user_sys_us(proxy.pid)
    out = drive(scenario, proxy.port, seconds, folder)
    if not out["requests"]:
        raise RuntimeError(f"{proxy.name} answered nothing")
    cpu = process.cpu_us(proxy.pid) - cpu
    user_after, system_after = process.user_sys_us(proxy.pid)
    count = out["requests"]
    out.update(
        cpu_us=cpu / count, user_us=(user_after - user) / count, sys_us=(system_after - system) / count,
        rps=count / out["seconds"], busy=cpu / 1e6 / out["seconds"], mb_per_cpu_s=out["bytes"] / cpu,
        rss_mb=process.memory_mb(proxy.pid),
    )
    return out


def check_answer(scenario, proxy):
    """Asks once by ourselves: the proxy must pass on status and body. HTTP/2 is checked by what h2load counts."""
    if scenario.tool == "h2load":
        return
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    make = http.client.HTTPSConnection if scenario.tls else http.client.HTTPConnection
    connection = make("127.0.0.1", proxy.port, timeout=10, **({"context": context} if scenario.tls else {}))
    connection.request("GET", scenario.path)
    answer = connection.getresponse()
    size = len(answer.read())
    connection.close()
    if answer.status != 200 or size != {SMALL: 1024, BIG: 1024 * 1024}[scenario.path]:
        raise RuntimeError(f"{proxy.name} answered {answer.status} with {size} bytes")


def run(scenario, proxies, origin, certs, folder, rounds, seconds):
    """All rounds, the proxies taking turns: name to list of measurements, and what went wrong."""
    live, results, problems = [], {}, []
    try:
        for proxy in proxies:
            try:
                if proxy.start(scenario.conf, folder / proxy.name, origin, certs):
                    check_answer(scenario, proxy)
                    drive(scenario, proxy.port, 1, folder)
                    live.append(proxy)
                    results[proxy.name] = []
            except (RuntimeError, OSError) as error:
                problems.append(str(error))
        for turn in range(rounds):
            first = turn % max(len(live), 1)
            for proxy in live[first:] + live[:first]:
                time.sleep(0.1)
                try:
                    results[proxy.name].append(measured(scenario, proxy, seconds, folder))
                except RuntimeError as error:
                    problems.append(str(error))
    finally:
        for proxy in proxies:
            proxy.stop()
    return results, problems
