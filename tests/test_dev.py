"""`datom dev`: a domain in one process, whose data survive it."""

import signal
import subprocess
import unittest

from cluster import DATOM, HOST, MEGABYTE, PATIENCE, Node, TestCase, check_logs, connect, datom, free_ports, temporary_folder, wait_for
from content import BLOCK, Writer, WriteLog

SIZE = 16 * MEGABYTE


class Dev(TestCase):
    def setUp(self):
        super().setUp()
        self.folder = temporary_folder(self)
        self.root = self.folder / "dev"
        self.port = free_ports(4)
        self.nbd_port = free_ports(3)
        self.servers = [Node(self.root, f"vs{i + 1}", "volumeserver", self.port + 1 + i, self.nbd_port + i) for i in range(3)]
        self.process = None
        self.starts = 0
        self.addCleanup(check_logs, self.folder)
        self.addCleanup(self.kill)

    def start(self):
        with open(self.folder / "dev.log", "ab") as log:
            self.process = subprocess.Popen([DATOM, "dev", "--root", str(self.root), "--port", str(self.port), "--nbd_port",
                                             str(self.nbd_port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self.process.poll() is not None or self.text().count("is up:") == self.starts + 1, self.text)
        self.assertIsNone(self.process.poll(), self.text())
        self.starts += 1

    def text(self):
        return (self.folder / "dev.log").read_text(errors="replace")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(PATIENCE), 0, self.text())

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def test_data_survive_stop_kill_and_start(self):
        self.start()
        datom("volume", "create", "db", "--size", SIZE, root=self.root)
        log = WriteLog(SIZE // BLOCK)
        for turn in range(4):
            writer = Writer(self.servers[turn % 3].uri("db"), log, seed=turn)
            writer.wait_acknowledged(500, PATIENCE)
            if turn % 2 == 0:
                writer.stop()
                self.stop()
            else:
                self.kill()
                writer.abandon()
            self.start()
            log.verify(connect(self.servers[(turn + 1) % 3], "db"))
        self.assertIn("db", datom("volume", "ls", root=self.root).stdout)
        self.stop()

    def test_each_server_can_be_stopped_under_load(self):
        self.start()
        datom("volume", "create", "db", "--size", SIZE, root=self.root)
        log = WriteLog(SIZE // BLOCK)
        for server, through in zip(self.servers, self.servers[1:] + self.servers[:1]):
            writer = Writer(through.uri("db"), log, seed=server.port)
            writer.wait_acknowledged(200, PATIENCE)
            server.stop()
            writer.wait_acknowledged(200, PATIENCE)
            server.start()
            writer.wait_acknowledged(200, PATIENCE)
            writer.stop()
        for server in self.servers:
            log.verify(connect(server, "db"))
        self.stop()

    def test_a_second_one_on_the_same_root_is_refused(self):
        self.start()
        done = datom("dev", "--port", free_ports(4), "--nbd_port", free_ports(3), root=self.root, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("is in use by another process", done.stderr)
        datom("status", root=self.root)
        self.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
