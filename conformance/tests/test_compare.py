"""The comparison must see what differs, and only that."""
import unittest

from harness.compare import MASK, compare, merge


def texts(want, got):
    return [difference.text() for difference in compare(want, got)]


class Merge(unittest.TestCase):
    def test_equal_runs_mask_nothing(self):
        run = {"wire": [{"status": "200", "headers": ["a: 1"]}], "exit": {"code": 0}}
        self.assertEqual(merge(run, run), run)

    def test_only_the_leaf_that_varies_is_masked(self):
        a = {"wire": [{"status": "200", "body": "x"}]}
        b = {"wire": [{"status": "200", "body": "y"}]}
        self.assertEqual(merge(a, b), {"wire": [{"status": "200", "body": MASK}]})

    def test_a_list_whose_length_varies_is_masked(self):
        self.assertEqual(merge({"up": [1]}, {"up": [1, 2]}), {"up": MASK})

    def test_a_key_that_one_run_lacks_is_masked(self):
        self.assertEqual(merge({"a": 1}, {}), {"a": MASK})


class Compare(unittest.TestCase):
    def test_equal_records_do_not_differ(self):
        self.assertEqual(texts({"a": [1, {"b": "c"}]}, {"a": [1, {"b": "c"}]}), [])

    def test_masks_match_anything(self):
        self.assertEqual(texts({"a": MASK, "b": [MASK]}, {"a": 5, "b": ["x"]}), [])

    def test_a_masked_key_may_be_missing(self):
        self.assertEqual(texts({"a": MASK}, {}), [])

    def test_missing_and_extra_keys(self):
        found = texts({"stats": {"a": 1}}, {"stats": {"b": 2}})
        self.assertEqual(len(found), 2)
        self.assertIn("stats.a is missing", found[0])
        self.assertIn("stats.b is extra", found[1])

    def test_lines_in_another_order(self):
        (found,) = texts({"headers": ["a: 1", "b: 2"]}, {"headers": ["b: 2", "a: 1"]})
        self.assertIn("has another order", found)

    def test_a_repeated_line_that_is_missing(self):
        (found,) = texts({"headers": ["a: 1", "a: 1"]}, {"headers": ["a: 1"]})
        self.assertIn("a: 1", found)

    def test_a_masked_line_takes_one_extra_line(self):
        self.assertEqual(texts({"headers": ["a: 1", MASK]}, {"headers": ["a: 1", "x: 9"]}), [])
        self.assertEqual(len(texts({"headers": ["a: 1", MASK]}, {"headers": ["a: 1", "x: 9", "y: 9"]})), 1)

    def test_one_and_true_are_not_the_same(self):
        self.assertEqual(len(texts({"a": 1}, {"a": True})), 1)

    def test_the_kind_is_the_top_level_key(self):
        (found,) = compare({"log": [{"flags": "NR"}]}, {"log": [{"flags": "-"}]})
        self.assertEqual(found.kind, "log")


if __name__ == "__main__":
    unittest.main()
