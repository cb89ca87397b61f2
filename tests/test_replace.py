"""Replicas move to other servers while clients write: asked for, by draining a node, and because a disk was lost. Whoever is
killed in the middle, the move ends or is undone, and what was acknowledged stays."""

import json
import shutil
import unittest

from cluster import MEGABYTE, PATIENCE, Cluster, TestCase, connect, datom, wait_for
from content import BLOCK, Writer, WriteLog

SIZE = 32 << 20


class Moves(TestCase):
    """Volume db on three of five servers; the client's server keeps no replica while this is so."""

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self, servers=5)
        self.cluster.create("db", SIZE)
        self.log = WriteLog(SIZE // BLOCK)
        self.fill()

    def fill(self):
        writer = Writer(self.cluster.servers[0].uri("db"), self.log, limit=3000)
        writer.join(PATIENCE)

    def datom(self, *arguments, **options):
        return datom(*arguments, root=self.cluster.config.root, **options)

    def spares(self):
        return self.cluster.others(*self.cluster.members("db"))

    def wait_at_rest(self, gone=None, come=None):
        """Waits until no move is under way; then `gone` keeps no replica and `come` does."""
        def at_rest():
            info = self.cluster.info("db")
            return info is not None and info["move"] is None and info["state"] == "healthy" and info
        info = wait_for(at_rest, lambda: f"db is at rest: {self.cluster.describe('db')}")
        services = [member["service"] for member in info["members"]]
        self.assertEqual(len(services), 3)
        self.assertEqual({member["membership"] for member in info["members"]}, {"voter"})
        if gone:
            self.assertNotIn(gone.service, services)
        if come:
            self.assertIn(come.service, services)

    def moves(self):
        info = self.cluster.info("db")
        return info is None or info["move"] is not None

    def verify(self):
        self.log.verify(connect(self.cluster.servers[0], "db"))

    def test_moves_under_load_and_with_kills(self):
        cluster = self.cluster
        target, through = self.spares()
        volume = cluster.info("db")["id"]
        writer = Writer(through.uri("db"), self.log)
        writer.wait_acknowledged(100, PATIENCE)

        # A follower, and back; then the leader.
        source = cluster.followers("db")[0]
        done = self.datom("volume", "move", "db", "--from", source.service, "--to", target.service)
        self.assertIn(f"has moved from {source.service} to {target.service}", done.stdout)
        self.wait_at_rest(source, target)
        wait_for(lambda: not source.keeps(volume), "the old server drops its data")
        source, target = cluster.leader("db"), source
        done = self.datom("volume", "move", "db", "--from", source.service, "--to", target.service, "-o", "json")
        self.assertIsNone(json.loads(done.stdout)["move"])
        self.wait_at_rest(source, target)

        # kill -9 in the middle.
        for victim in ("source", "target", "leader"):
            source, target = cluster.followers("db")[0], source
            self.datom("volume", "move", "db", "--from", source.service, "--to", target.service, "--no_wait")
            killed = {"source": source, "target": target, "leader": cluster.leader("db")}[victim]
            killed.kill()
            writer.wait_acknowledged(100, PATIENCE)
            if victim == "target":
                killed.start()
            wait_for(lambda: not self.moves(), lambda: f"the move ends, {victim} killed: {cluster.describe('db')}")
            if victim != "target":
                killed.start()
            self.wait_at_rest(source, target)

        # One that cannot go on is undone.
        source, target = cluster.followers("db")[0], source
        self.datom("volume", "move", "db", "--from", source.service, "--to", target.service, "--no_wait")
        target.kill()
        undone = self.datom("volume", "move", "db", "--cancel", check=False)
        target.start()
        if undone.returncode == 0:
            self.wait_at_rest(target, source)
        else:
            # It was faster than the undoing.
            self.assertRegex(undone.stderr, "votes already|is not being moved")
            self.wait_at_rest(source, target)
        writer.stop()
        self.verify()
        # Each replica on its own account.
        for server in cluster.members("db"):
            cluster.make_leader("db", server)
            self.verify()

    def test_a_node_is_drained_and_removed(self):
        cluster = self.cluster
        self.datom("volume", "create", "small", "--size", 4 * MEGABYTE, "--replicas", 2)
        leaving = cluster.leader("db")
        node = leaving.root.name
        through = self.spares()[0]
        writer = Writer(through.uri("db"), self.log)
        writer.wait_acknowledged(100, PATIENCE)
        self.assertEqual(self.datom("node", "rm", node, "--yes", check=False).returncode, 1)
        done = self.datom("node", "drain", node)
        self.assertIn("is out", done.stdout)
        writer.wait_acknowledged(100, PATIENCE)
        self.wait_at_rest(gone=leaving)
        info = json.loads(self.datom("node", "info", node, "-o", "json").stdout)
        self.assertEqual((info["state"], info["replicas"]), ("out", 0))
        leaving.stop()
        self.datom("node", "rm", node, "--yes")
        writer.stop()
        self.log.verify(connect(through, "db"))


class LostDisk(TestCase):
    def wipe(self, server):
        server.stop()
        shutil.rmtree(server.root / server.service / "replicas")
        server.start()

    def test_it_is_replaced_on_the_same_server_where_there_is_no_other(self):
        cluster = Cluster(self, servers=3, properties={"replace.after_ms": 1500})
        cluster.create("db", SIZE)
        log = WriteLog(SIZE // BLOCK)
        Writer(cluster.servers[0].uri("db"), log, limit=3000).join(PATIENCE)
        before = {member["service"]: member["replica"] for member in cluster.info("db")["members"]}
        wiped = cluster.followers("db")[0]
        self.wipe(wiped)

        def replaced():
            info = cluster.info("db")
            if info is None or info["move"] is not None or info["state"] != "healthy":
                return False
            return all((member["replica"] == before[member["service"]]) != (member["service"] == wiped.service)
                       for member in info["members"])
        wait_for(replaced, lambda: f"the lost replica is replaced: {cluster.describe('db')}")
        cluster.make_leader("db", wiped)
        log.verify(connect(wiped, "db"))

    def test_a_server_that_is_gone_is_replaced_by_another(self):
        cluster = Cluster(self, servers=4, properties={"replace.after_ms": 1500})
        cluster.create("db", SIZE)
        log = WriteLog(SIZE // BLOCK)
        (spare,) = cluster.others(*cluster.members("db"))
        writer = Writer(spare.uri("db"), log)
        writer.wait_acknowledged(500, PATIENCE)
        gone = cluster.leader("db")
        gone.kill()

        def replaced():
            info = cluster.info("db")
            return info is not None and info["state"] == "healthy" and info["move"] is None and (
                spare.service in [member["service"] for member in info["members"]])
        wait_for(replaced, lambda: f"{gone.service} is replaced by {spare.service}: {cluster.describe('db')}")
        writer.stop()
        log.verify(connect(spare, "db"))
        # It comes back, and finds that nobody counts on it any more.
        gone.start()
        volume = cluster.info("db")["id"]
        wait_for(lambda: not gone.keeps(volume), "it drops what it kept")
        cluster.wait_equal("db")


if __name__ == "__main__":
    unittest.main(verbosity=2)
