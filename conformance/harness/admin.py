"""Asking the admin interface, and what of the answer is worth comparing."""
import http.client
import json
import re
import time

from .ports import HOST


def fetch(port, path, method="GET", body=None, headers=None):
    """(status, header lines, body text) of one admin call."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, [f"{k}: {v}" for k, v in answer.getheaders()], answer.read().decode("latin1")
    finally:
        connection.close()


def counters(port):
    """Every counter and gauge of ``/stats``."""
    try:
        _, _, text = fetch(port, "/stats")
    except OSError:
        return {}
    return {name: int(value) for name, value in re.findall(r"^(\S+): (\d+)$", text, re.M)}


def lag(port):
    """Seconds that the shortest of answers takes; 0 without one."""
    start = time.monotonic()
    try:
        fetch(port, "/ready")
    except (OSError, http.client.HTTPException):
        return 0
    return time.monotonic() - start


def call(env, spec):
    """The ``admin`` step. `show` picks the form: text, lines (sorted), names, json, shape, headers or status."""
    port = env.ports["admin"]
    show = spec.get("show", "text")
    try:
        status, headers, text = fetch(port, spec["path"], spec.get("method", "GET"), spec.get("body"), spec.get("headers"))
    except (OSError, http.client.HTTPException) as error:
        return {"admin": spec["path"], "error": type(error).__name__}
    record = {"admin": spec["path"], "status": status}
    content_type = [line for line in headers if line.lower().startswith("content-type")]
    record["headers"] = headers if show == "headers" else content_type
    if show in ("json", "shape"):
        try:
            tree = json.loads(text)
        except ValueError:
            return {**record, "not_json": text[:500]}
        tree = pick(tree, spec.get("at"))
        record[show] = shape(tree) if show == "shape" else tree
        return record
    lines = [line for line in text.splitlines() if re.search(spec.get("grep", ""), line)]
    if show == "text":
        record["text"] = lines
    elif show == "lines":
        record["lines"] = sorted(lines)
    elif show == "names":
        record["names"] = sorted({re.split(r"[:{ ]", line, maxsplit=1)[0] for line in lines})
    return record


def pick(tree, path):
    """Follows a path like ``configs.0.bootstrap.node`` into a JSON tree; None where there is nothing."""
    for part in str(path).split(".") if path is not None else []:
        if isinstance(tree, list):
            tree = tree[int(part)] if int(part) < len(tree) else None
        elif isinstance(tree, dict):
            tree = tree.get(part)
        else:
            return None
    return tree


def shape(tree):
    """A JSON tree with its values replaced by their types; a list by the shapes in it, each once."""
    if isinstance(tree, dict):
        return {key: shape(value) for key, value in sorted(tree.items())}
    if isinstance(tree, list):
        out = []
        for item in map(shape, tree):
            if item not in out:
                out.append(item)
        return out
    return type(tree).__name__


def wait_stat(env, spec):
    """The ``wait_stat`` step: polls until a stat has reached a value; says whether it did."""
    deadline = time.monotonic() + spec.get("timeout", 5)
    while time.monotonic() < deadline:
        if counters(env.ports["admin"]).get(spec["name"], 0) >= spec.get("at_least", 1):
            return {"stat": spec["name"], "reached": True}
        time.sleep(0.03)
    return {"stat": spec["name"], "reached": False}
