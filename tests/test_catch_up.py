"""A follower that was away comes back: through the journal, or by copying blocks where the journal no longer reaches back."""

import unittest

from cluster import MEGABYTE, PATIENCE, Cluster, TestCase, connect, wait_for
from content import BLOCK, Writer, WriteLog


def write(server, volume, log, count, seed):
    writer = Writer(server.uri(volume), log, limit=count, seed=seed)
    writer.join(PATIENCE * 3)


class Away(TestCase):
    def test_ten_thousand_writes_come_through_the_journal(self):
        size = 32 * MEGABYTE
        cluster = Cluster(self)
        cluster.create("db", size)
        away, *_ = cluster.followers("db")
        leader = cluster.leader("db")
        log = WriteLog(size // BLOCK)
        write(leader, "db", log, 500, seed=1)
        away.kill()
        write(leader, "db", log, 10_000, seed=2)
        away.start()
        cluster.wait_equal("db")
        self.assertNotIn("replica.copy", away.log())
        cluster.make_leader("db", away)
        log.verify(connect(away, "db"))

    def test_blocks_are_copied_where_the_journal_has_gone(self):
        size = 32 * MEGABYTE
        cluster = Cluster(self, properties={"journal.retention_bytes": MEGABYTE, "checkpoint.interval_ms": 500})
        cluster.create("db", size)
        away, *_ = cluster.followers("db")
        leader = cluster.leader("db")
        log = WriteLog(size // BLOCK)
        write(leader, "db", log, 2000, seed=1)
        away.kill()
        turn = 2
        # Until it has to copy: how much journal is kept depends on segments and checkpoints as well.
        while "replica.copied" not in away.log():
            self.assertLess(turn, 6, cluster.describe("db"))
            write(leader, "db", log, 10_000, seed=turn)
            away.start()
            # Writes go on while it copies.
            write(leader, "db", log, 1000, seed=turn + 100)
            cluster.wait_equal("db")
            if "replica.copied" not in away.log():
                away.kill()
            turn += 1
        # It is as good as any: it leads, and what it has is right.
        cluster.make_leader("db", away)
        log.verify(connect(away, "db"))
        # It makes a quorum with either of the others.
        for other in cluster.others(away):
            other.kill()
            write(away, "db", log, 200, seed=other.port)
            log.verify(connect(away, "db"))
            other.start()
            cluster.wait_equal("db")


if __name__ == "__main__":
    unittest.main(verbosity=2)
