"""The command line of ``conformance/run``."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import certs, coverage
from .case import ROOT, load_cases
from .compare import Difference, apply_masks, compare, masks
from .known import Known
from .observe import run_case
from .recording import Recordings

HOME = Path(os.environ.get("NUNCIO_CONFORMANCE_HOME", ROOT.parent / "target" / "conformance"))

STATES = ("ok", "known", "shaky", "open", "FAIL", "skip")
# How often a case that differs is run again, alone. It has failed when it differs every time.
REPEATS = 3


def arguments():
    parser = argparse.ArgumentParser(prog="conformance/run", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="regular expression on the case id")
    parser.add_argument("--bin", help="the binary to hold against Envoy (default: the release build of nuncio)")
    parser.add_argument("--jobs", "-j", type=int, default=4, help="cases at the same time")
    parser.add_argument("--fresh", action="store_true", help="record Envoy anew")
    parser.add_argument("--verbose", "-v", action="store_true", help="print all differences, excused ones too")
    parser.add_argument("--json", metavar="FILE", help="write the outcome of every case")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("--uncovered", action="store_true", help="print the contract rows that no case names")
    parser.add_argument("--masks", action="store_true", help="print how much of each recording is masked")
    parser.add_argument("--check-without", action="store_true", help="each case must differ without its feature's configuration")
    parser.add_argument("--self-test", action="store_true", help="run the tests of the harness itself")
    parser.add_argument("--show", action="store_true", help="print the full records of the selected cases")
    return parser.parse_args()


def find_binary(wanted):
    """The binary under test; built when it is the default and missing."""
    if wanted:
        path = shutil.which(wanted) or wanted
        return Path(path).resolve()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT.parent / "target"))
    path = target / "release" / "nuncio"
    if not path.exists():
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT.parent, check=True)
    return path.resolve()


def needs_missing(case):
    """Why a case cannot run on this machine, or None."""
    if "ipv6" in case.get("needs", []) and not Path("/proc/net/if_inet6").read_text().strip():
        return "no IPv6 here"
    return None


class Suite:
    """The run of all selected cases against one binary."""

    def __init__(self, options, binary):
        self.options, self.binary = options, binary
        self.certs = certs.make(HOME / "certs")
        envoy = (HOME / "venv" / "bin" / "envoy").resolve()
        self.recordings = Recordings(HOME / "recordings", envoy, self.certs, options.fresh)
        self.known = Known()

    def run(self, case):
        return json.loads(json.dumps(run_case(case, self.binary, self.certs)))

    def one(self, case):
        """(state, lines to print) of one case. ``again`` means: it differs, `repeat` is to decide."""
        reason = needs_missing(case)
        if reason:
            return "skip", [reason]
        return self.held_against(case, self.recordings.get(case))

    def repeat(self, case, first):
        """Runs a case that differed again, with nothing else going on. What it differs in every time is a failure;
        Envoy runs each time too, so that where it does not agree with itself is masked."""
        for _ in range(REPEATS):
            state, lines = guard(lambda: self.held_against(case, self.recordings.again(case)))
            if state != "again":
                return "shaky", [*(f"differed at first: {line}" for line in first), *lines]
        return "FAIL", lines

    def held_against(self, case, reference):
        """(state, lines to print) of one run against what Envoy did."""
        seen = self.run(case)
        found = differences(case, reference, seen)
        unexpected, excused, stale = self.known.split(case, hard(case, found), seen)
        lines = [one.text() for one in unexpected]
        if self.options.verbose:
            lines += [f"known: {one.text()}" for one in excused]
            lines += [f"soft: {one.text()}" for one in found if one.kind in case.get("soft", [])]
        lines += [f"no longer occurs: {entry['what']}" for entry in stale]
        reason = self.known.open.get(case.id)
        if reason and unexpected:
            return "open", lines if self.options.verbose else []
        if reason:
            lines.append("is equal now: take it out of not-yet.yaml")
        return ("again" if unexpected else "known" if excused else "ok"), lines

    def without(self, case):
        """Whether the case can fail: without the feature's configuration it must differ from what Envoy did with it."""
        bare = case.without()
        if bare is None:
            return "skip", []  # a baseline (case.py checks that it configures nothing)
        seen = self.run(bare)
        if not started(seen):
            return "FAIL", ["does not start without the configuration: " + seen["exit"]["output"][-300:]]
        if hard(case, differences(case, self.recordings.get(case), seen)):
            return "ok", []
        return "FAIL", ["nothing changed without the configuration"]

    def all(self, cases):
        work = self.without if self.options.check_without else self.one
        outcome, limit = {}, None if self.options.verbose else 8

        def note(case, state, lines):
            outcome[case.id] = {"state": state, "lines": lines}
            report(case, state, lines, limit)

        unsure = []
        with ThreadPoolExecutor(self.options.jobs) as pool:
            pending = {pool.submit(guard, work, case): case for case in cases}
            try:
                for done in as_completed(pending):
                    case, (state, lines) = pending[done], done.result()
                    if state == "again" and work == self.one:
                        unsure.append((case, lines))
                    else:
                        note(case, "FAIL" if state == "again" else state, lines)
            except (KeyboardInterrupt, SystemExit):
                pool.shutdown(cancel_futures=True)  # the cases that run now clean up after themselves
                raise
        for case, lines in unsure:
            note(case, *self.repeat(case, lines))
        return outcome


def started(seen):
    return not (isinstance(seen["exit"], dict) and seen["exit"].get("started") is False)


def differences(case, reference, seen):
    if not started(seen):  # then everything else is missing too
        return [Difference("exit", "starts", seen["exit"]["output"][-280:])]
    return apply_masks(case, compare(reference, seen))


def hard(case, found):
    """Without those of a kind that the case calls soft."""
    return [one for one in found if one.kind not in case.get("soft", [])]


def guard(work, *args):
    try:
        return work(*args)
    except Exception:  # a broken case must not end the others
        return "again", ["the harness failed: " + traceback.format_exc(limit=-3)]


def report(case, state, lines, limit):
    print(f"{state:5} {case.id}", flush=True)
    for line in lines[:limit]:
        print(f"        {line}")
    if limit and len(lines) > limit:
        print(f"        … {len(lines) - limit} more (-v shows them)")


def print_uncovered():
    missing, unknown = coverage.uncovered(load_cases())
    for row, text in missing.items():
        print(f"{row:40} {text}")
    for row in unknown:
        print(f"{row:40} named by a case, not in contract.yaml")
    print(f"{len(missing)} of {len(coverage.rows())} rows without a case")
    return 1 if missing or unknown else 0


def print_records(cases, binary):
    for case in cases:
        folder = tempfile.mkdtemp(prefix="conformance-")
        record = run_case(case, binary, certs.make(HOME / "certs"), keep=folder)
        print(f"# {case.id}, files kept in {folder}")
        print(json.dumps(record, indent=1, ensure_ascii=False))


def self_test():
    """Runs ``tests/``."""
    tests = unittest.defaultTestLoader.discover(str(ROOT / "tests"), top_level_dir=str(ROOT))
    return 0 if unittest.TextTestRunner().run(tests).wasSuccessful() else 1


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no proxy stays behind
    options = arguments()
    if options.self_test:
        return self_test()
    if options.uncovered:
        return print_uncovered()
    cases = load_cases(options.pattern)
    if options.list:
        for case in cases:
            print(f"{case.id:44} {' '.join(case.rows)}")
        return 0
    envoy = HOME / "venv" / "bin" / "envoy"
    binary = find_binary(options.bin or (options.masks and envoy))
    if options.show:
        print_records(cases, binary)
        return 0
    suite = Suite(options, binary)
    if options.masks:
        for case in cases:
            print(f"{masks(suite.recordings.get(case)):5} {case.id}")
        return 0
    start = time.monotonic()
    outcome = suite.all(cases)
    if options.json:
        Path(options.json).write_text(json.dumps(outcome, indent=1))
    count = {state: sum(one["state"] == state for one in outcome.values()) for state in STATES}
    known = f" ({count['known']} with known differences)" if count["known"] else ""
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    if count["open"]:
        print(f"{count['open']} cases are not equal yet (not-yet.yaml)")
    if count["shaky"]:
        shaky = sorted(name for name, one in outcome.items() if one["state"] == "shaky")
        print(f"{count['shaky']} shaky (differed, but not when run again alone): {' '.join(shaky)}")
    # What is not equal yet was not held against Envoy: it counts as skipped.
    passed = count["ok"] + count["known"] + count["shaky"]
    print(f"{passed} passed{known}, {count['FAIL']} failed, {count['skip'] + count['open']} skipped")
    return 1 if count["FAIL"] else 0
