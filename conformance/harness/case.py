"""A case: one YAML file under ``cases/<area>/<id>.yaml``."""
import copy
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "cases"
KINDS = ("exit", "wire", "up", "log", "stats", "admin")
FIELDS = {
    "note", "rows", "config", "file", "upstreams", "steps", "cli", "validate", "args", "env",
    "without", "baseline", "files", "mask", "soft", "needs", "stats", "linger",
}
# Why a case has no `without`: there is no configuration in it that could be taken away.
BASELINES = {
    "codec": "what HTTP itself demands of a message",
    "peer": "what becomes of a request when the client or the upstream does this",
    "default": "what holds when nothing is configured",
    "admin": "what the admin interface says of the usual configuration",
    "process": "the command line and signals",
}
# What a case may configure a proxy by.
CONFIGURED = ("config", "args", "env", "file", "files")


@dataclass
class Case:
    """What the file says, plus its id (``<area>/<name>``)."""

    id: str
    text: str
    data: dict
    rows: list = field(default_factory=list)

    def get(self, key, default=None):
        value = self.data.get(key)
        return default if value is None else value

    def configures(self):
        """Whether the case configures anything beyond the usual bootstrap."""
        upstreams = [upstream or {} for upstream in self.get("upstreams", {}).values()]
        return any(self.get(key) for key in CONFIGURED) or any(one.get("protocol") == "h2" for one in upstreams)

    def without(self):
        """The same case with the feature's configuration removed, or None."""
        patch = self.data.get("without")
        if patch is None:
            return None
        data = merge_patch(copy.deepcopy(self.data), patch)
        return Case(self.id + " (without)", self.text, data, self.rows)


def merge_patch(base, patch):
    """RFC 7386: mappings merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), value)
    return out


def load_case(path):
    text = path.read_text()
    name = f"{path.parent.name}/{path.stem}"
    data = yaml.safe_load(text)
    unknown = set(data) - FIELDS
    if unknown:
        raise ValueError(f"{name}: unknown field {sorted(unknown)}")
    if not data.get("rows"):
        raise ValueError(f"{name}: a case names the contract rows it covers")
    if sum(key in data for key in ("steps", "cli", "validate")) != 1:
        raise ValueError(f"{name}: exactly one of steps, cli and validate")
    case = Case(name, text, data, data["rows"])
    check_without(case)
    for kind in data.get("soft", []):
        if kind not in KINDS:
            raise ValueError(f"{name}: soft: {kind} is none of {KINDS}")
    return case


def check_without(case):
    """Exactly one of `without` and `baseline`; what configures something has something to take away."""
    patch, baseline = case.data.get("without"), case.data.get("baseline")
    if (patch is None) == (baseline is None):
        raise ValueError(f"{case.id}: exactly one of without and baseline")
    if patch is None:
        if baseline not in BASELINES:
            raise ValueError(f"{case.id}: baseline: {baseline} is none of {sorted(BASELINES)}")
        if case.configures():
            raise ValueError(f"{case.id}: what configures something needs a without, not a baseline")
    elif not patch or set(patch) - {*CONFIGURED, "upstreams"}:
        raise ValueError(f"{case.id}: without takes away configuration ({', '.join(CONFIGURED)}), not what is done with it")
    else:
        for name, upstream in patch.get("upstreams", {}).items():
            if set(upstream) != {"cluster_protocol"}:
                raise ValueError(f"{case.id}: without leaves upstream {name} as it is, but for its cluster's cluster_protocol")


def load_cases(pattern=""):
    """All cases whose id matches the regular expression."""
    cases = [load_case(path) for path in sorted(CASES.glob("*/*.yaml"))]
    return [case for case in cases if re.search(pattern, case.id)]
