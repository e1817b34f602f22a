"""Merging runs of the reference into one record, and telling where another record differs from it."""
import json
import re

MASK = "<varies>"


def merge(a, b):
    """What two runs agree on; a leaf that differs, or a list whose length does, becomes MASK."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: merge(a[key], b[key]) if key in a and key in b else MASK for key in {**a, **b}}
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [merge(x, y) for x, y in zip(a, b)]
    return a if same(a, b) else MASK


def masks(value):
    """How many leaves of a record are masked."""
    return json.dumps(value).count(f'"{MASK}"')


def show(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + "…"


class Difference:
    """One place where two records differ. `kind` is the record's top-level key."""

    def __init__(self, path, want, got, word="differs"):
        self.path, self.want, self.got, self.word = path, want, got, word
        self.kind = re.split(r"[.\[]", path, maxsplit=1)[0]

    def text(self):
        return f"{self.path} {self.word}: Envoy {show(self.want)}  here {show(self.got)}"


def same(a, b):
    """Equal as JSON; to Python 1, 1.0 and True are equal."""
    return a == b and json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def is_lines(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def compare(want, got, path=""):
    """Yields the differences between a reference record and another."""
    if want == MASK or same(want, got):
        return
    if isinstance(want, dict) and isinstance(got, dict):
        for key in {**want, **got}:
            below = f"{path}.{key}" if path else str(key)
            if key not in got:
                if want[key] != MASK:
                    yield Difference(below, want[key], None, "is missing")
            elif key not in want:
                yield Difference(below, None, got[key], "is extra")
            else:
                yield from compare(want[key], got[key], below)
    elif is_lines(want) and is_lines(got):
        yield from compare_lines(want, got, path)
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            yield Difference(path, len(want), len(got), "has another length")
        for index, (x, y) in enumerate(zip(want, got)):
            yield from compare(x, y, f"{path}[{index}]")
    else:
        yield Difference(path, want, got)


def compare_lines(want, got, path):
    """Lists of lines, as headers are: what is missing, what is extra, and the order when all are there."""
    open_slots = want.count(MASK)
    missing = [line for line in want if line not in got and line != MASK]
    extra = [line for line in got if line not in want]
    for line in missing:
        yield Difference(path, line, None, "lacks a line")
    for line in extra[open_slots:]:
        yield Difference(path, None, line, "has an extra line")
    if not missing and not extra and not open_slots:
        yield Difference(path, want, got, "has another order")


def apply_masks(case, differences):
    """Leaves out what the case itself declares incomparable (`mask`: regular expressions on the path)."""
    patterns = [re.compile(pattern) for pattern in case.get("mask", [])]
    return [one for one in differences if not any(p.search(one.path) for p in patterns)]
