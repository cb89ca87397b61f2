"""Processes die and freeze: what was acknowledged stays, clients of other servers see no error."""

import os
import signal
import time
import unittest

from cluster import PATIENCE, Cluster, TestCase, connect, is_running, wait_for
from content import BLOCK, PendingRead, Writer, WriteLog

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


class KillEverything(TestCase):
    def test_acknowledged_writes_are_there_after_the_restart(self):
        cluster = Cluster(self)
        cluster.create("db", SIZE)
        log = WriteLog(SIZE // BLOCK)
        for turn in range(2):
            writer = Writer(cluster.servers[turn].uri("db"), log, seed=turn)
            writer.wait_acknowledged(1000, PATIENCE)
            pids = [node.pid() for node in [*cluster.servers, cluster.config]] + [cluster.zookeeper.process.pid]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            cluster.zookeeper.process.wait()
            for pid in pids:
                wait_for(lambda: not is_running(pid), f"process {pid} is gone")
            writer.abandon()
            cluster.zookeeper.start()
            cluster.config.start()
            for server in cluster.servers:
                server.start()
            cluster.wait_healthy("db")
            log.verify(connect(cluster.servers[turn - 1], "db"))
        for server in cluster.servers:
            cluster.make_leader("db", server)
            log.verify(connect(server, "db"))


class FewerThanAQuorum(TestCase):
    """Of four servers the client's keeps no replica, so that it need not be touched."""

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self, servers=4)
        self.cluster.create("db", SIZE)
        self.members = self.cluster.members("db")
        (self.through,) = self.cluster.others(*self.members)
        self.log = WriteLog(SIZE // BLOCK)
        self.writer = Writer(self.through.uri("db"), self.log)
        self.writer.wait_acknowledged(500, PATIENCE)

    def expect_stall(self):
        """Returns once I/O waits; what was on its way when the servers died may still arrive."""
        seen = {"count": -1, "since": time.monotonic()}

        def quiet():
            if self.log.count != seen["count"]:
                seen.update(count=self.log.count, since=time.monotonic())
            return time.monotonic() - seen["since"] > 3
        wait_for(quiet, "writes stop when there is no quorum")

    def expect_end(self, server):
        """SIGTERM ends the server though I/O waits."""
        pid = server.pid()
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not is_running(pid), lambda: f"{server.service} ends: {server.log()}", timeout=15)

    def test_io_waits_and_then_goes_on(self):
        # Two followers, then the leader and a follower.
        for victims in (self.cluster.followers("db"), [self.cluster.leader("db"), self.cluster.followers("db")[0]]):
            for victim in victims:
                victim.kill()
            self.expect_stall()
            read = PendingRead(connect(self.through, "db"), 0)
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                self.assertFalse(read.answered(), "a read was answered without a quorum")
            victims[0].start()
            self.writer.wait_acknowledged(500, PATIENCE)
            wait_for(read.answered, "the read is answered")
            victims[1].start()
            self.cluster.wait_healthy("db")
        self.writer.stop()
        self.log.verify(connect(self.through, "db"))

    def test_sigterm_ends_servers_while_io_waits(self):
        leader = self.cluster.leader("db")
        for follower in self.cluster.followers("db"):
            follower.kill()
        self.expect_stall()
        self.expect_end(leader)
        self.expect_end(self.through)
        self.writer.abandon()
        for server in self.cluster.servers:
            server.start()
        self.cluster.wait_healthy("db")
        self.log.verify(connect(self.through, "db"))


class PausedLeader(TestCase):
    def test_it_serves_nothing_stale_and_follows(self):
        cluster = Cluster(self)
        cluster.create("db", SIZE)
        log = WriteLog(SIZE // BLOCK)
        blocks = range(64)
        for turn in range(3):
            leader = cluster.leader("db")
            other = cluster.others(leader)[turn % 2]
            # Through the leader itself, before it freezes.
            through_leader = connect(leader, "db")
            log.verify(through_leader, blocks)
            leader.pause()
            cluster.leader_other_than("db", leader)
            writer = Writer(other.uri("db"), log, seed=turn, writable=blocks)
            writer.wait_acknowledged(500, PATIENCE)
            writer.stop()
            # These wait at the frozen leader and are the first thing that it sees.
            reads = [PendingRead(through_leader, block) for block in blocks]
            leader.go_on()
            for read in reads:
                wait_for(read.answered, "the read is answered")
                self.assertIsNone(log.check(read.block, read.data()))
            cluster.wait_healthy("db")
            self.assertIsNot(cluster.leader("db"), leader)
            log.verify(through_leader)
        for server in cluster.servers:
            cluster.make_leader("db", server)
            log.verify(connect(server, "db"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
