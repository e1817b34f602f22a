"""The list of known differences: ``known-differences.yaml``."""
import re

import yaml

from .case import ROOT


class Known:
    """Entries ``{case, what, reason, ours?}``: `what` is a regular expression on the text of a difference, `ours` one
    that our own value must match for the entry to excuse it."""

    def __init__(self):
        path = ROOT / "known-differences.yaml"
        self.entries = yaml.safe_load(path.read_text()) or []
        for entry in self.entries:
            if not entry.get("reason"):
                raise ValueError(f"{entry}: a known difference needs a reason")

    def split(self, case, differences):
        """(unexpected differences, excused ones, entries of this case that no longer occur)."""
        mine = [entry for entry in self.entries if entry["case"] == case.id]
        used, unexpected, excused = set(), [], []
        for one in differences:
            hit = next((i for i, entry in enumerate(mine) if excuses(entry, one)), None)
            if hit is None:
                unexpected.append(one)
            else:
                used.add(hit)
                excused.append(one)
        stale = [entry for i, entry in enumerate(mine) if i not in used]
        return unexpected, excused, stale


def excuses(entry, difference):
    if not re.search(entry["what"], difference.text()):
        return False
    return "ours" not in entry or bool(re.search(entry["ours"], str(difference.got)))
