"""Processes pinned to a CPU, and what they used."""
import os
import re
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CPUS = sorted(os.sched_getaffinity(0))
PROXY_CPU, LOAD_CPU = CPUS[0], CPUS[-1]


def start(cpu, command, log):
    """Starts `command` on one CPU, its output going to the file `log`."""
    with open(log, "wb") as out:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
        )


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def family(pid):
    """The process and its descendants."""
    out, todo = [], [pid]
    while todo:
        one = todo.pop()
        out.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                todo += map(int, children.read_text().split())
            except OSError:
                pass
    return out


def cpu_us(pid):
    """Microseconds on a CPU, to the nanosecond, of all threads that live."""
    total = 0
    for one in family(pid):
        for stat in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                total += int(stat.read_text().split()[0])
            except OSError:
                pass
    return total / 1000


def main_cpu_us(pid):
    """Of the main thread alone."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1000


def user_sys_us(pid):
    """User and system time in microseconds, to the clock tick."""
    user = system = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user * 1e6 / TICKS, system * 1e6 / TICKS


def memory_mb(pid, key="VmRSS"):
    """Resident memory (`VmRSS`), or its peak (`VmHWM`), in MiB."""
    total = 0
    for one in family(pid):
        found = re.search(key + r":\s+(\d+)", Path(f"/proc/{one}/status").read_text())
        total += int(found[1]) if found else 0
    return total / 1024


def wait_port(port, process, seconds=60):
    """Waits until somebody accepts on `port`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.005)
    raise RuntimeError("does not listen")


def free_ports(count):
    """Ports below the ephemeral range that nobody uses now."""
    out = []
    for port in range(13000 + os.getpid() % 1500, 15000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        out.append(port)
        if len(out) == count:
            return out
    raise RuntimeError("no free ports")
