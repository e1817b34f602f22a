"""A difference that does not come back is named, not failed; one that stays is a failure."""
import contextlib
import io
import types
import unittest

from harness.case import Case
from harness.cli import REPEATS, Suite
from harness.known import Known


class Fake(Suite):
    """A suite whose runs are scripted: `runs` says for each run of a case whether it equals Envoy."""

    def __init__(self, runs, open_cases=()):
        self.options = types.SimpleNamespace(verbose=False, check_without=False, jobs=2)
        self.runs = {name: list(answers) for name, answers in runs.items()}
        self.known = Known()
        self.known.open = dict.fromkeys(open_cases, "not built")
        self.recordings = types.SimpleNamespace(get=reference, again=reference)

    def run(self, case):
        alive = self.runs[case.id].pop(0)
        if alive is None:
            raise OSError("nothing to run")
        return {"exit": {"alive": alive}}

    def outcome(self):
        cases = [Case(name, "", {"steps": []}, []) for name in self.runs]
        with contextlib.redirect_stdout(io.StringIO()):
            return {name: one["state"] for name, one in self.all(cases).items()}


def reference(_case):
    return {"exit": {"alive": True}}


class Repeat(unittest.TestCase):
    def test_an_equal_case_runs_once(self):
        suite = Fake({"a/b": [True, False]})
        self.assertEqual(suite.outcome(), {"a/b": "ok"})
        self.assertEqual(suite.runs["a/b"], [False])

    def test_a_case_that_differs_every_time_fails(self):
        suite = Fake({"a/b": [False] * (1 + REPEATS) + [True]})
        self.assertEqual(suite.outcome(), {"a/b": "FAIL"})
        self.assertEqual(suite.runs["a/b"], [True])

    def test_a_case_that_is_equal_once_is_shaky(self):
        suite = Fake({"a/b": [False] * REPEATS + [True], "a/c": [True]})
        self.assertEqual(suite.outcome(), {"a/b": "shaky", "a/c": "ok"})

    def test_a_case_that_is_open_is_not_repeated(self):
        suite = Fake({"a/b": [False, True]}, open_cases=["a/b"])
        self.assertEqual(suite.outcome(), {"a/b": "open"})

    def test_a_run_that_breaks_the_harness_once_is_repeated(self):
        suite = Fake({"a/b": [None, True]})
        self.assertEqual(suite.outcome(), {"a/b": "shaky"})

    def test_a_run_that_always_breaks_the_harness_is_a_failure(self):
        suite = Fake({"a/b": []})
        self.assertEqual(suite.outcome(), {"a/b": "FAIL"})


if __name__ == "__main__":
    unittest.main()
