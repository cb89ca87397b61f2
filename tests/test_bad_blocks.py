"""What a disk loses comes back from the other servers: bytes of the leader's and of a follower's files are flipped while
they are stopped, and nobody reads anything wrong."""

import json
import random
import unittest

from cluster import MEGABYTE, PATIENCE, Cluster, TestCase, connect, datom, wait_for
from content import BLOCK, Writer, WriteLog

SIZE = 32 * MEGABYTE


def data_file(server, volume_id):
    return server.root / server.service / "replicas" / volume_id / "layers/0/data"


def written_blocks(log):
    return [block for block in range(log.blocks) if log.acknowledged[block] > 0]


def flip(path, blocks, seed):
    """One bit of each of the blocks."""
    draw = random.Random(seed)
    with open(path, "r+b") as file:
        for block in blocks:
            at = block * BLOCK + draw.randrange(BLOCK)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << draw.randrange(8))]))


class BadBlocks(TestCase):
    def test_are_repaired_from_the_other_servers(self):
        cluster = Cluster(self, properties={"scrub.bytes_per_second": 0})
        cluster.create("db", SIZE)
        leader = cluster.leader("db")
        follower, *_ = cluster.followers("db")
        log = WriteLog(SIZE // BLOCK)
        Writer(leader.uri("db"), log, limit=3000, seed=1).join(PATIENCE)
        cluster.wait_equal("db")
        self.verify(cluster, expected=0)
        volume = cluster.info("db")["id"]

        leader.stop()
        follower.stop()
        blocks = random.Random(2).sample(written_blocks(log), 60)
        flip(data_file(leader, volume), blocks[:40], seed=3)
        flip(data_file(follower, volume), blocks[20:], seed=4)
        leader.start()
        follower.start()
        cluster.wait_healthy("db")
        cluster.wait_equal("db")

        # Through each of them, as leader, everything reads right.
        for server in (leader, follower):
            cluster.make_leader("db", server)
            log.verify(connect(server, "db"))
            self.assertIn("replica.block_repaired", server.log())
        self.verify(cluster, "--deep", expected=0)
        self.assertEqual(self.repaired(cluster, follower) > 0, True)

    def test_are_found_by_verify_and_by_the_scrub(self):
        cluster = Cluster(self, properties={"scrub.bytes_per_second": 0})
        cluster.create("db", SIZE)
        first, second = cluster.followers("db")
        log = WriteLog(SIZE // BLOCK)
        Writer(cluster.leader("db").uri("db"), log, limit=2000, seed=1).join(PATIENCE)
        cluster.wait_equal("db")
        volume = cluster.info("db")["id"]
        blocks = random.Random(2).sample(written_blocks(log), 20)

        first.stop()
        flip(data_file(first, volume), blocks[:10], seed=3)
        first.start()
        cluster.wait_equal("db")
        found = self.verify(cluster, "--deep", expected=1)
        self.assertEqual(sorted(blocks[:10]), [difference["block"] for difference in found["differences"]])
        for difference in found["differences"]:
            self.assertEqual([(copy["service"], copy["damaged"], copy["repaired"]) for copy in difference["copies"]],
                             [(first.service, True, True)])
        self.verify(cluster, "--deep", expected=0)

        datom("property", "set", "scrub.bytes_per_second", 64 * MEGABYTE, root=cluster.config.root)
        second.stop()
        flip(data_file(second, volume), blocks[10:], seed=4)
        second.start()
        wait_for(lambda: self.repaired(cluster, second) == 10, lambda: cluster.describe("db"))
        self.verify(cluster, "--deep", expected=0)

    def repaired(self, cluster, server):
        return next(member["repaired_blocks"] for member in cluster.info("db")["members"]
                    if member["service"] == server.service)

    def verify(self, cluster, *options, expected):
        done = datom("volume", "verify", "db", *options, "-o", "json", root=cluster.config.root, check=False)
        self.assertEqual(done.returncode, expected, done.stdout + done.stderr + cluster.describe("db"))
        found = json.loads(done.stdout)
        self.assertEqual(found["equal"], expected == 0)
        return found


if __name__ == "__main__":
    unittest.main(verbosity=2)
