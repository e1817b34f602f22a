"""The steps of a case. Every step returns a record of what was seen, or None."""
import threading
import time

from . import admin, client_h1, client_h2, net

CONNECTION_OPTIONS = ("listener", "address", "tls", "linger", "timeout", "settings", "preface")
ENDING = ("TERM", "INT", "KILL")


def options_of(step):
    return {key: step[key] for key in CONNECTION_OPTIONS if key in step}


def each(env, step):
    """``h1_each``: every text on a connection of its own, one response each; the record is keyed by the text."""
    out = {}
    for item in step["h1_each"]:
        ops = [{"send": item}, {"recv": item.split(" ")[0]}]
        out[item] = client_h1.run(env, ops, options_of(step))
    return out


def parallel(env, step):
    """``parallel``: steps at the same time, started `gap` seconds apart."""
    results = [None] * len(step["parallel"])

    def go(index, inner):
        results[index] = run(env, inner)

    threads = []
    for index, inner in enumerate(step["parallel"]):
        threads.append(threading.Thread(target=go, args=(index, inner)))
        threads[-1].start()
        time.sleep(step.get("gap", 0.1))
    for thread in threads:
        thread.join()
    return {"parallel": results}


def send_signal(env, step):
    """``signal``: sends it; records the exit code when the process ends in time."""
    name = step["signal"]
    env.proxy.signal(name)
    return {"signal": name, "exit": env.proxy.wait(step.get("seconds", 5 if name in ENDING else 0.5))}


def says(env, step):
    """``says``: whether phrases are in the proxy's output, or in `file`; waits for them, as they may be under way."""
    def text():
        return "\n".join(env.read(step["file"]) or []) if "file" in step else env.proxy.output()

    net.wait_until(lambda: all(phrase in text() for phrase in step["says"]), 2)
    return {"says": {phrase: phrase in text() for phrase in step["says"]}}


def wait_lines(env, spec):
    """``wait_lines``: waits until the access log, or `file`, has so many lines; the record shows them in any case."""
    spec = spec if isinstance(spec, dict) else {"at_least": spec}
    name = spec.get("file", "access.log")
    net.wait_until(lambda: len(env.read(name) or []) >= spec["at_least"], 5)


def run(env, step):
    if "get" in step:
        return client_h1.run(env, [{"get": step["get"], "headers": step.get("headers", [])}], options_of(step))
    if "h1" in step:
        return client_h1.run(env, step["h1"], options_of(step))
    if "h1_each" in step:
        return each(env, step)
    if "h2" in step:
        return client_h2.run(env, step["h2"], options_of(step))
    if "parallel" in step:
        return parallel(env, step)
    if "admin" in step:
        spec = step["admin"]
        return admin.call(env, {"path": spec} if isinstance(spec, str) else spec)
    if "wait_stat" in step:
        return admin.wait_stat(env, step["wait_stat"])
    if "signal" in step:
        return send_signal(env, step)
    if "write" in step:
        env.write(step["write"]["file"], step["write"]["text"])
        return None
    if "replace" in step:
        # As orchestrators do it: another file is moved to its place.
        env.write_tree("replace.tmp", step["replace"]["with"])
        (env.folder / "replace.tmp").rename(env.folder / step["replace"]["file"])
        return None
    if "resource" in step:
        from . import upstream_ads

        return upstream_ads.change(env, step["resource"])
    if "rename" in step:
        (env.folder / step["rename"][0]).rename(env.folder / step["rename"][1])
        return None
    if "read_file" in step:
        return {"file": step["read_file"], "lines": env.read(step["read_file"])}
    if "says" in step:
        return says(env, step)
    if "wait_lines" in step:
        return wait_lines(env, step["wait_lines"])
    if "wait_up" in step:
        return env.wait_up(step["wait_up"])
    if "stop_upstream" in step:
        env.upstreams[step["stop_upstream"]].stop()
        return None
    if "sleep" in step:
        time.sleep(step["sleep"])
        return None
    raise ValueError(f"unknown step {step}")
