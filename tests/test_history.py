"""What the fault tests judge by: content that names its write, and the checker of histories."""

import pathlib
import subprocess
import sys
import unittest

from cluster import DATOM, TOP

sys.path.insert(0, str(TOP / "tests/faults"))

from load import BLOCK, RUBBISH, content, value_of  # noqa: E402

CHECKER = pathlib.Path(DATOM).parent / "datom_check_history"


def check(*lines):
    """(exit status, what it said)."""
    done = subprocess.run([CHECKER], input="".join(f"{line}\n" for line in lines), capture_output=True, text=True,
                          timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


class Content(unittest.TestCase):
    def test_names_its_write(self):
        self.assertEqual(value_of(3, content(3, 77)), 77)
        self.assertEqual(value_of(3, bytes(BLOCK)), 0)

    def test_of_another_block_torn_or_half_zero_is_rubbish(self):
        half = BLOCK // 2
        for data in (content(4, 77), content(3, 77)[:half] + content(3, 76)[half:], content(3, 77)[:half] + bytes(half),
                     bytes(half) + content(3, 77)[half:]):
            self.assertEqual(value_of(3, data), RUBBISH)


class Histories(unittest.TestCase):
    def expect_violation(self, *lines):
        status, text = check(*lines)
        self.assertEqual(status, 1, text)
        self.assertIn("block 1", text)

    def test_what_a_register_can_do_is_accepted(self):
        status, text = check("r 1 0 5 8 a@vs1", "w 1 7 10 20 a@vs1", "r 1 7 12 13 b", "w 2 8 10 - a", "r 2 0 30 31 b", "r 2 8 32 33 b")
        self.assertEqual(status, 0, text)

    def test_a_lost_write(self):
        self.expect_violation("w 1 7 10 20 a", "r 1 0 21 22 b")

    def test_a_write_of_unknown_outcome_that_is_seen_and_then_not(self):
        self.expect_violation("w 1 7 10 - a", "r 1 7 21 22 b", "r 1 0 23 24 b")

    def test_an_old_write_that_comes_back(self):
        self.expect_violation("w 1 7 10 20 a", "w 1 8 30 40 a", "r 1 8 41 42 b", "r 1 7 43 44 b")

    def test_content_that_nobody_wrote(self):
        self.expect_violation(f"r 1 {RUBBISH} 21 22 a")

    def test_no_history(self):
        for line in ("w 1 7 10", "x 1 7 10 20", "w 1 seven 10 20", "r 1 7 10 -"):
            self.assertEqual(check(line)[0], 2, line)


if __name__ == "__main__":
    unittest.main(verbosity=2)
