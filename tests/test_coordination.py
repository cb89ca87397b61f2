"""ZooKeeper goes away and comes back: I/O goes on without it, elections with it."""

import signal
import time
import unittest

from cluster import PATIENCE, Cluster, TestCase, connect
from content import BLOCK, Writer, WriteLog

SIZE = 16 << 20
AWAY = 30  # seconds; several session timeouts


class ZooKeeperAway(TestCase):
    def check_io_goes_on(self, leave, come_back):
        cluster = Cluster(self)
        cluster.create("db", SIZE)
        leader = cluster.leader("db")
        through = cluster.others(leader)[0]
        log = WriteLog(SIZE // BLOCK)
        writer = Writer(through.uri("db"), log)
        writer.wait_acknowledged(200, PATIENCE)
        leave(cluster.zookeeper)
        end = time.monotonic() + AWAY
        while time.monotonic() < end:
            writer.wait_acknowledged(200, PATIENCE)
        come_back(cluster.zookeeper)
        writer.wait_acknowledged(200, PATIENCE)
        # Sessions are new or renewed: the next election finds a leader.
        cluster.wait_healthy("db")
        leader = cluster.leader("db")
        if leader is through:
            writer.stop()
            writer = None
        leader.kill()
        cluster.leader_other_than("db", leader)
        leader.start()
        cluster.wait_healthy("db")
        if writer:
            writer.wait_acknowledged(200, PATIENCE)
            writer.stop()
        log.verify(connect(through, "db"))

    def test_frozen(self):
        self.check_io_goes_on(lambda zookeeper: zookeeper.process.send_signal(signal.SIGSTOP),
                              lambda zookeeper: zookeeper.process.send_signal(signal.SIGCONT))

    def test_killed_and_restarted(self):
        self.check_io_goes_on(lambda zookeeper: zookeeper.kill(), lambda zookeeper: zookeeper.start())


if __name__ == "__main__":
    unittest.main(verbosity=2)
