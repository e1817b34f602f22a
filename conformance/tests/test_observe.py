"""What upstreams saw: the order within a connection counts, that between connections does not."""
import unittest

from harness.observe import by_connection


class ByConnection(unittest.TestCase):
    def test_connections_that_race_give_the_same_record(self):
        one, end = {"connection": 1, "tunnel": "a"}, {"connection": 1, "tunnel": ""}
        other = {"connection": 2, "line": "GET / HTTP/1.1"}
        self.assertEqual(by_connection([one, end, other]), by_connection([one, other, end]))

    def test_the_order_within_a_connection_stays(self):
        first, second = {"connection": 1, "line": "GET /1"}, {"connection": 1, "line": "GET /2"}
        self.assertEqual(by_connection([first, second]), [first, second])
        self.assertEqual(by_connection([second, first]), [second, first])


if __name__ == "__main__":
    unittest.main()
