"""ZooKeeper goes away and comes back: I/O goes on without it, elections with it."""

import signal
import time
import unittest

from cluster import PATIENCE, Cluster, TestCase, connect
from content import BLOCK, Writer, WriteLog

SIZE = 16 << 20
SESSION_TIMEOUT = 6  # seconds


class ZooKeeperAway(TestCase):
    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self)
        self.zookeeper = self.cluster.zookeeper
        self.cluster.create("db", SIZE)
        self.leader = self.cluster.leader("db")
        self.through = self.cluster.others(self.leader)[0]
        self.log = WriteLog(SIZE // BLOCK)
        self.writer = Writer(self.through.uri("db"), self.log)
        self.writer.wait_acknowledged(200, PATIENCE)

    def expect_io(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.writer.wait_acknowledged(200, PATIENCE)

    def finish(self):
        self.writer.wait_acknowledged(200, PATIENCE)
        self.writer.stop()
        self.log.verify(connect(self.through, "db"))

    def test_frozen_for_longer_than_sessions_last(self):
        self.zookeeper.process.send_signal(signal.SIGSTOP)
        self.expect_io(2.5 * SESSION_TIMEOUT)
        self.zookeeper.process.send_signal(signal.SIGCONT)
        self.writer.wait_acknowledged(200, PATIENCE)
        self.cluster.wait_healthy("db")
        # Sessions are renewed: the next election finds a leader.
        leader = self.cluster.leader("db")
        if leader is not self.through:
            leader.kill()
        self.finish()

    def test_killed_and_the_leader_with_it_before_it_is_back(self):
        self.zookeeper.kill()
        self.expect_io(30)
        self.leader.kill()
        # Nobody can be elected now. Nothing fails: I/O waits.
        self.zookeeper.start()
        self.finish()
        self.leader.start()
        self.cluster.wait_healthy("db")
        self.cluster.make_leader("db", self.leader)
        self.log.verify(connect(self.leader, "db"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
