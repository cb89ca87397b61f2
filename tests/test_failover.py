"""Processes die: what was acknowledged stays, and clients of other servers see no error."""

import unittest

from cluster import PATIENCE, Cluster, TestCase, connect
from content import BLOCK, Writer, WriteLog

SIZE = 16 << 20


class KillUnderLoad(TestCase):
    def test_leader_and_follower_in_turn(self):
        cluster = Cluster(self, servers=4)
        cluster.create("db", SIZE)
        members = cluster.members("db")
        (through,) = cluster.others(*members)
        log = WriteLog(SIZE // BLOCK)
        writer = Writer(through.uri("db"), log)
        for turn in range(20):
            writer.wait_acknowledged(100, PATIENCE)
            victim = cluster.leader("db") if turn % 2 == 0 else cluster.followers("db")[turn // 2 % 2]
            victim.kill()
            writer.wait_acknowledged(100, PATIENCE)
            victim.start()
            cluster.wait_healthy("db")
        writer.stop()
        log.verify(connect(through, "db"))
        # Each replica on its own account.
        for server in members:
            cluster.make_leader("db", server)
            log.verify(connect(server, "db"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
