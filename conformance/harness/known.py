"""What may differ: on purpose (``known-differences.yaml``) and for now (``not-yet.yaml``)."""
import json
import re

import yaml

from .case import ROOT


class Known:
    """Entries ``{case, what, reason, ours?}``: `what` is a regular expression on the text of a difference, `ours` one
    that what was seen on the wire here must match for the entry to excuse anything."""

    def __init__(self):
        path = ROOT / "known-differences.yaml"
        self.entries = yaml.safe_load(path.read_text()) or []
        for entry in self.entries:
            if not entry.get("reason"):
                raise ValueError(f"{entry}: a known difference needs a reason")

        self.open = {}
        for entry in yaml.safe_load((ROOT / "not-yet.yaml").read_text()) or []:
            if not entry.get("reason"):
                raise ValueError(f"{entry}: a case that is not equal yet needs a reason")
            self.open.update(dict.fromkeys(entry["cases"], entry["reason"]))

    def split(self, case, differences, seen):
        """(unexpected differences, excused ones, entries of this case that no longer occur)."""
        wire = json.dumps(seen.get("wire", seen.get("exit")))
        mine = [entry for entry in self.entries if entry["case"] == case.id]
        mine = [entry for entry in mine if re.search(entry.get("ours", ""), wire)]
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
    return bool(re.search(entry["what"], difference.text()))
