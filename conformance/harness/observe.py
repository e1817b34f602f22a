"""Running one case on one binary, from an empty folder to a record."""
import json
import shutil
import tempfile
import time
from pathlib import Path

from . import admin, config, net, normalise, steps
from .ports import HOST, PortBlock
from .proxy import Proxy, run_to_end
from .upstream import Upstream


class Environment:
    """What the steps of a case work on."""

    def __init__(self, case, binary, certs, folder):
        self.case, self.binary, self.certs, self.folder = case, binary, certs, folder
        self.ports = PortBlock()
        self.upstreams, self.proxy = {}, None

    def name(self, name):
        """What ``${name}`` stands for in configuration and arguments."""
        if name == "dir":
            return str(self.folder)
        if name == "certs":
            return str(self.certs)
        return self.ports[name]

    def text(self, value):
        return config.expand_text(value, self.name)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(text))
        return str(path)

    def write_tree(self, name, tree):
        """Writes a text, or a tree as YAML."""
        self.write(name, tree if isinstance(tree, str) else config.dump(tree, self.name))

    def read(self, name):
        path = self.folder / name
        return path.read_text(errors="replace").splitlines() if path.exists() else None

    def write_config(self):
        return self.write_raw(self.case.get("file", "envoy.yaml"), self.case.get("config", {}))

    def write_raw(self, name, tree):
        path = self.folder / name
        path.write_text(config.render(tree, self.case.get("upstreams", {}), self.name))
        return path

    def wait_up(self, counts):
        """``wait_up: {upstream: n}``: waits until upstreams have noted so many things (requests, resets)."""
        net.wait_until(lambda: all(len(self.upstreams[name].seen) >= n for name, n in counts.items()), 5)

    def close(self):
        for upstream in self.upstreams.values():
            upstream.stop()
        self.ports.release()


def run_case(case, binary, certs, keep=None):
    """Everything that `binary` did in `case`, comparable between runs and proxies."""
    folder = Path(keep or tempfile.mkdtemp(prefix="conformance-"))
    env = Environment(case, str(binary), certs, folder)
    try:
        if "cli" in case.data:
            record = command_lines(env)
        elif "validate" in case.data:
            record = validation(env)
        else:
            record = traffic(env)
        return normalise.record(record, env)
    finally:
        env.close()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def command_lines(env):
    """A ``cli`` case: commands that end by themselves."""
    out = []
    if "config" in env.case.data:
        env.write_config()
    for command in env.case.get("cli"):
        for name, text in command.get("files", {}).items():
            env.write(name, text)
        args = [env.text(str(arg)) for arg in command["args"]]
        code, stdout, stderr = run_to_end(env.binary, args, env.folder, env.case.get("env"), command.get("seconds", 20))
        out.append({"args": command["args"], "exit": code, **what_it_said(env, command, stdout, stderr)})
    return {"exit": out}


def what_it_said(env, command, stdout, stderr):
    """The wanted parts of the output: whole streams by name (`show`), or whether phrases are in either (`says`)."""
    record = {}
    show = command.get("show", [])
    if "stdout" in show:
        record["stdout"] = stdout.splitlines()
    if "stderr" in show:
        record["stderr"] = stderr.splitlines()
    text = normalise.squeeze(stdout + "\n" + stderr)
    if "says" in command:
        record["says"] = {phrase: env.text(phrase) in text for phrase in command["says"]}
    return record


def validation(env):
    """A ``validate`` case: exit code, and whether Envoy's phrases are in the output."""
    spec = env.case.get("validate")
    path = env.write_config()
    mode = [] if spec.get("serve") else ["--mode", "validate"]
    args = ["-c", str(path), *mode, "--disable-hot-restart", *(env.text(arg) for arg in env.case.get("args", []))]
    code, stdout, stderr = run_to_end(env.binary, args, env.folder, env.case.get("env"))
    return {"exit": {"code": code, **what_it_said(env, spec, stdout, stderr)}}


def traffic(env):
    """A case with steps: start upstreams and proxy, play, collect."""
    case = env.case
    for name, spec in case.get("upstreams", {}).items():
        port = env.ports[(spec or {}).get("port_of", name)]
        env.upstreams[name] = Upstream(name, spec, port, env.name)
    for name, tree in case.get("files", {}).items():
        env.write_tree(name, tree)
    path = env.write_config()
    args = [env.text(str(arg)) for arg in case.get("args", [])]
    env.proxy = Proxy(env.binary, path, env.folder, args, env.ports["admin"])
    try:
        if not env.proxy.ready:
            return {"exit": {"started": False, "output": env.proxy.output()[-2000:]}}
        seen = [steps.run(env, step) for step in case.get("steps")]
        record = {"wire": [one for one in seen if one is not None and "admin" not in one]}
        record["admin"] = [one for one in seen if one is not None and "admin" in one]
        record["log"] = access_log(env)
        if case.get("stats", True):
            record["stats"] = settled_stats(env)
        record["up"] = {name: by_connection(upstream.seen) for name, upstream in env.upstreams.items()}
        record["exit"] = {"alive": env.proxy.process.poll() is None, "code": env.proxy.stop()}
        panics = [line for line in env.proxy.output().splitlines() if "panicked at" in line]
        if panics:  # no case may end so, not even while the process ends
            record["exit"]["panics"] = panics
        return record
    finally:
        env.proxy.stop()


def by_connection(events):
    """What an upstream saw, connection by connection: only within one is the order the proxy's doing, between two it
    is the scheduler's."""
    return sorted(events, key=lambda event: event["connection"])


def access_log(env):
    """The lines of the access log once no more come; JSON lines as trees, their key order kept."""
    last, lines = None, env.read("access.log") or []
    while lines != last:
        last = lines
        time.sleep(max(0.12, 4 * admin.lag(env.ports["admin"])))  # a machine that is busy flushes late
        lines = env.read("access.log") or []
    out = []
    for line in lines:
        try:
            tree = json.loads(line)
            out.append({**tree, "(key order)": " ".join(tree)})
        except (ValueError, TypeError):
            out.append(line)
    return out


def settled_stats(env):
    """Non-zero counters and gauges once two readings agree."""
    last = None
    for _ in range(10):
        now = {k: v for k, v in admin.counters(env.ports["admin"]).items() if v and not normalise.noisy_stat(k)}
        if now == last:
            break
        last = now
        time.sleep(0.05)
    return now
