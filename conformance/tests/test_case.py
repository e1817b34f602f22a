"""Cases and the configuration that is made of them."""
import unittest

from harness import coverage
from harness.case import Case, check_without, load_cases, merge_patch
from harness.config import bootstrap, render
from harness.known import Known


class MergePatch(unittest.TestCase):
    def test_mappings_merge_and_null_removes(self):
        self.assertEqual(merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}), {"a": {"c": 2, "d": 3}})

    def test_lists_are_replaced(self):
        self.assertEqual(merge_patch({"a": [1, 2]}, {"a": [3]}), {"a": [3]})


class Config(unittest.TestCase):
    def names(self, name):
        return {"l0": 1000, "up": 2000, "admin": 3000, "dir": "/folder"}[name]

    def test_whole_values_stay_numbers(self):
        text = render({}, {"up": {}}, self.names)
        self.assertIn("port_value: 1000", text)
        self.assertIn("path: /folder/access.log", text)

    def test_short_types_become_type_urls(self):
        text = render({}, {"up": {}}, self.names)
        self.assertIn("type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", text)

    def test_a_bare_y_is_quoted(self):
        text = render({"full": {"node": {"id": "y"}}}, {}, self.names)
        self.assertIn("'y'", text)

    def test_unknown_parts_are_refused(self):
        with self.assertRaises(ValueError):
            bootstrap({"route": []}, {})


class Files(unittest.TestCase):
    def test_every_case_loads_and_names_rows_of_the_contract(self):
        _, unknown = coverage.uncovered(load_cases())
        self.assertEqual(unknown, [])

    def test_without_patches_the_case(self):
        case = Case("a/b", "", {"config": {"hcm": {"x": 1}}, "without": {"config": {"hcm": None}}})
        self.assertEqual(case.without().data["config"], {})

    def case(self, **data):
        check_without(Case("a/b", "", data))

    def test_what_configures_something_has_a_without(self):
        for configured in ({"config": {"hcm": {}}}, {"args": ["-l", "info"]}, {"file": "x.json"}, {"upstreams": {"up": {"protocol": "h2"}}}):
            with self.assertRaisesRegex(ValueError, "needs a without"):
                self.case(baseline="default", **configured)
        self.case(baseline="default", config={}, upstreams={"up": {"protocol": "dead"}, "other": None})

    def test_a_case_has_a_without_or_a_baseline(self):
        for neither_nor_both in ({}, {"without": {"config": None}, "baseline": "codec"}):
            with self.assertRaisesRegex(ValueError, "exactly one"):
                self.case(config={"hcm": {}}, **neither_nor_both)
        with self.assertRaisesRegex(ValueError, "none of"):
            self.case(baseline="because")

    def test_a_without_leaves_alone_what_is_done(self):
        for patch in ({"steps": []}, {}, {"cli": []}):
            with self.assertRaisesRegex(ValueError, "takes away configuration"):
                self.case(without=patch)
        with self.assertRaisesRegex(ValueError, "as it is"):
            self.case(without={"upstreams": {"up": {"paths": {}}}})
        self.case(without={"upstreams": {"up": {"cluster_protocol": "h1"}}})

    def test_known_differences_name_cases_that_exist(self):
        ids = {case.id for case in load_cases()}
        for entry in Known().entries:
            self.assertIn(entry["case"], ids)


if __name__ == "__main__":
    unittest.main()
