"""The checks of content.py find what they are there for."""

import unittest

from content import BLOCK, WriteLog, block_content


class Device:
    """Stands for a connection to a volume that holds these blocks."""

    def __init__(self, *blocks):
        self.data = b"".join(blocks)

    def pread(self, size, offset):
        return self.data[offset:offset + size]


class Content(unittest.TestCase):
    def setUp(self):
        self.log = WriteLog(2)

    def write(self, block):
        version = self.log.begin(block)
        self.log.acknowledge(block, version)

    def expect_wrong(self, text, *blocks):
        with self.assertRaisesRegex(AssertionError, text):
            self.log.verify(Device(*blocks))

    def test_what_was_acknowledged_must_be_there(self):
        self.write(0)
        self.write(0)
        self.log.verify(Device(block_content(0, 2), bytes(BLOCK)))
        self.expect_wrong("block 0: expected version .2., found version 1", block_content(0, 1), bytes(BLOCK))
        self.expect_wrong("found version 0", bytes(BLOCK), bytes(BLOCK))
        self.expect_wrong("found version 2 of block 0", block_content(0, 2), block_content(0, 2))

    def test_torn_blocks_are_wrong(self):
        self.write(0)
        new = block_content(0, 1)
        self.expect_wrong("the rest of the block differs", new[:512] + bytes(BLOCK - 512), bytes(BLOCK))

    def test_unanswered_writes_may_be_there_or_not(self):
        self.write(0)
        self.log.begin(0)
        for version in (1, 2):
            self.log.verify(Device(block_content(0, version), bytes(BLOCK)))
        self.expect_wrong("expected version .1, 2.", block_content(0, 3), bytes(BLOCK))
        self.write(0)
        self.expect_wrong("expected version .3.", block_content(0, 2), bytes(BLOCK))


if __name__ == "__main__":
    unittest.main(verbosity=2)
