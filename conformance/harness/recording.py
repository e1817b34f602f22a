"""What the real Envoy did, kept under the target folder and keyed by all that it depends on."""
import hashlib
import json
import time
from pathlib import Path

from .compare import merge
from .observe import run_case

RUNS = 2
# Recordings of other versions of a case or of the harness stay for a while: branches take turns.
KEPT_SECONDS = 24 * 3600


def harness_version():
    """A digest of the harness and of the pinned versions."""
    digest = hashlib.sha256()
    here = Path(__file__).resolve().parent
    skip = {"cli.py", "report.py", "coverage.py", "compare.py", "known.py"}
    for path in [*sorted(here.glob("*.py")), here.parent / "requirements.txt"]:
        if path.name not in skip:
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Recordings:
    """Reads and writes recordings; `fresh` ignores the ones that an earlier suite made."""

    def __init__(self, folder, envoy, certs, fresh=False):
        self.folder, self.envoy, self.certs, self.fresh = folder, envoy, certs, fresh
        self.version = harness_version()
        self.made = set()

    def path(self, case):
        key = hashlib.sha256((self.version + case.text).encode()).hexdigest()[:16]
        return self.folder / f"{case.id.replace('/', '.')}.{key}.json"

    def get(self, case):
        """The recording of a case, made now when there is none."""
        path = self.path(case)
        if path.exists() and (not self.fresh or path in self.made):
            return json.loads(path.read_text())
        return self.store(path, merge(*[self.run(case) for _ in range(RUNS)]))

    def again(self, case):
        """One more run of Envoy, merged in: what still varies gets masked."""
        path = self.path(case)
        return self.store(path, merge(self.get(case), self.run(case)))

    def run(self, case):
        """One run of Envoy; one that did not start is none."""
        record = run_case(case, self.envoy, self.certs)
        if isinstance(record["exit"], dict) and record["exit"].get("started") is False:
            raise RuntimeError("Envoy does not start on this case: " + record["exit"]["output"])
        return record

    def store(self, path, record):
        self.made.add(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(path.name.rsplit(".", 2)[0] + ".*.json"):
            if old != path and time.time() - old.stat().st_mtime > KEPT_SECONDS:
                old.unlink(missing_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False))
        return json.loads(path.read_text())
