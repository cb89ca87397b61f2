"""Services that cannot or must not start: each says why, with an exit code that is not 0, and disturbs nobody."""

import json
import os
import shutil
import socket
import unittest

import nbd

from cluster import HOST, MEGABYTE, PATIENCE, Cluster, Node, TestCase, add_cleanup, connect, datom, free_port, run, wait_for
from content import BLOCK, Writer, WriteLog, block_content

SIZE = 16 * MEGABYTE


class Refusals(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls)

    def setUp(self):
        super().setUp()
        self.running, self.node = self.cluster.servers[:2]
        if self.node_is_up():
            self.node.stop()

    def node_is_up(self):
        return (self.node.root / "run" / f"{self.node.service}.pid").exists()

    def expect_refusal(self, text, *arguments, service=None, kind="volumeserver", root=None):
        """In the foreground and in the background."""
        root = root or self.node.root
        service = service or self.node.service
        done = datom(kind, "--service_name", service, *arguments, root=root, check=False)
        self.assertIn(done.returncode, (1, 2, 3), done.stdout + done.stderr)
        self.assertIn(text, done.stderr)

    def expect_refusal_in_background(self, text, *arguments, service=None, root=None):
        done = datom("startservice", service or self.node.service, *arguments, root=root or self.node.root, check=False)
        self.assertIn(done.returncode, (1, 2, 3), done.stdout + done.stderr)
        self.assertIn(text, done.stderr)
        self.assertFalse(self.node_is_up())

    def test_node_json(self):
        path = self.node.root / "node.json"
        right = path.read_text()
        add_cleanup(self, lambda: path.write_text(right))

        def wrong(expected, text):
            path.write_text(text)
            self.expect_refusal(expected)
            self.expect_refusal_in_background(expected)

        def wrong_field(expected, **fields):
            wrong(expected, json.dumps(json.loads(right) | fields))

        def wrong_service(expected, **fields):
            (service,) = json.loads(right)["services"]
            wrong_field(expected, services=[service | fields])

        wrong("node.json: found '', expected a JSON object", "")
        wrong("expected a JSON object", right[:len(right) // 2])
        wrong("found '[]', expected a JSON object", "[]")
        wrong("expected a JSON object", "\0" * 100)
        wrong("65536", right + " " * 100_000)
        wrong_field("field format is 2, expected", format=2)
        wrong_field("field node is 7, expected a string", node=7)
        wrong_field("field node is \"UPPER/../case\", expected a name", node="UPPER/../case")
        wrong_field("field uuid is \"x\", expected a uuid", uuid="x")
        wrong_field("field coordination is \"ftp://a\", expected zk://", coordination="ftp://a")
        wrong_field("field nic_if is \"\", expected", nic_if="")
        wrong_field("network interface 'nope0' has no usable address here; found:", nic_if="nope0")
        wrong_field("field services is {}, expected an array", services={})
        wrong_field("it has: none", services=[])
        wrong_field("the instance has no domain 'other'", domain="other")
        wrong_service("field services[0].type is \"florist\", expected 'volumeserver' or 'configservice'", type="florist")
        wrong_service("field services[0].port is 70000, expected a whole number from 1 to 65535", port=70000)
        wrong_service("field services[0].port is \"1\", expected", port="1")
        wrong_service("has port 7, which another one has too", port=7, nbd_port=7)
        service = json.loads(right)["services"][0]
        wrong_field("is there twice", services=[service, service])
        path.unlink()
        self.expect_refusal("node.json is missing: this is no datom node yet; run 'datom addnode'")
        self.expect_refusal_in_background("node.json is missing")
        path.write_text(right)
        self.node.start()

    def test_two_services_on_one_root(self):
        self.expect_refusal(f"is in use by another process (pid {self.running.pid()}", root=self.running.root,
                            service=self.running.service)
        # Other ports do not help.
        self.expect_refusal("is in use by another process", "--port", free_port(), "--nbd_port", free_port(),
                            root=self.running.root, service=self.running.service)
        # Asked in the background, it is up already.
        pid = self.running.pid()
        self.assertIn(str(pid), datom("startservice", self.running.service, root=self.running.root).stdout)
        self.assertEqual(self.running.pid(), pid)

    def test_wrong_domain(self):
        self.expect_refusal("node 'n2' is of domain 'default', expected 'other'", "--domain_name", "other")
        self.expect_refusal_in_background("node 'n2' is of domain 'default', expected 'other'", "--domain_name", "other")

    def test_services_that_are_not_of_the_node(self):
        text = "service 'vs77' is not configured for node 'n2'; it has: vs2"
        self.expect_refusal(text, service="vs77")
        self.expect_refusal_in_background(text, service="vs77")
        self.expect_refusal("is a volumeserver, expected a configservice", kind="configservice")

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((HOST, self.node.nbd_port))
            taken.listen()
            text = f"{HOST}:{self.node.nbd_port} is in use by another process"
            self.expect_refusal(text)
            self.expect_refusal_in_background(text)
        self.node.start()


@unittest.skipUnless(os.geteuid() == 0, "mounting a small disk needs root")
class FullDisk(TestCase):
    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self)
        self.disk = self.cluster.folder / "disk"
        self.disk.mkdir()
        image = self.cluster.folder / "image"
        with open(image, "wb") as file:
            file.truncate(256 * MEGABYTE)
        run("mkfs.ext4", "-q", "-m", "0", image)
        run("mount", "-o", "loop", image, self.disk)
        self.node = Node(self.disk / "n9", "vs9", "volumeserver", free_port(), free_port())

    def fill(self):
        with open(self.disk / "filler", "wb", buffering=0) as file:
            for size in (MEGABYTE, BLOCK, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def make_room(self):
        (self.disk / "filler").unlink()

    def add_node(self, check=True):
        return datom("addnode", "--yes", "--coordination", self.cluster.coordination, "--name", "n9", "--nic_if", HOST,
                     "--service", self.node.spec(), root=self.node.root, check=check)

    def expect_no_space(self, done):
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("No space left on device", done.stderr)

    def start(self, check=True):
        return datom("startservice", "vs9", root=self.node.root, check=check)

    def test_each_step_says_so_and_works_once_there_is_room(self):
        self.fill()
        self.expect_no_space(self.add_node(check=False))
        self.make_room()
        self.add_node()
        self.fill()
        self.expect_no_space(self.start(check=False))
        self.expect_no_space(datom("volumeserver", "--service_name", "vs9", root=self.node.root, check=False))
        self.make_room()
        self.start()
        # With a replica that has missed writes.
        self.cluster.servers[2].stop()
        self.cluster.create("db", SIZE)
        self.assertIn("vs9", [member["service"] for member in self.cluster.info("db")["members"]])
        self.node.stop()
        self.fill()
        log = WriteLog(SIZE // BLOCK)
        Writer(self.cluster.servers[0].uri("db"), log, limit=2000).join(PATIENCE)
        self.expect_no_space(self.start(check=False))
        self.make_room()
        self.start()
        self.cluster.servers.append(self.node)
        self.cluster.wait_healthy("db")
        self.cluster.wait_equal("db")
        self.cluster.make_leader("db", self.node)
        log.verify(connect(self.node, "db"))

    def start_with_volume(self):
        """A volume with a replica on the small disk, and one on each of the first two servers."""
        self.add_node()
        self.start()
        self.cluster.servers.pop().stop()
        self.cluster.servers.append(self.node)
        self.cluster.create("db", SIZE)

    def test_a_full_disk_of_a_follower_costs_a_replica_and_nothing_else(self):
        self.start_with_volume()
        leader = self.cluster.servers[0]
        self.cluster.make_leader("db", leader)
        self.fill()
        log = WriteLog(SIZE // BLOCK)
        Writer(leader.uri("db"), log, limit=20_000).join(PATIENCE * 2)

        def trouble():
            info = self.cluster.info("db")
            return info and [m for m in info["members"] if m["service"] == "vs9" and "No space left" in m["trouble"]]
        wait_for(trouble, lambda: f"vs9 says that its disk is full: {self.cluster.describe('db')}")
        log.verify(connect(self.cluster.servers[1], "db"))
        # It stops and starts like any other.
        self.node.stop()
        self.make_room()
        self.start()
        self.cluster.wait_equal("db")
        self.cluster.make_leader("db", self.node)
        log.verify(connect(self.node, "db"))

    def test_a_leader_whose_disk_is_nearly_full_refuses_writes_and_serves_reads(self):
        self.start_with_volume()
        self.cluster.make_leader("db", self.node)
        handle = connect(self.cluster.servers[0], "db")
        handle.pwrite(block_content(0, 1), 0)
        space = shutil.disk_usage(self.disk).free
        with open(self.disk / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, space - 16 * MEGABYTE)

        def refused():
            try:
                handle.pwrite(block_content(1, 1), BLOCK)
            except nbd.Error as error:
                self.assertEqual(error.errno, "ENOSPC")
                return True
            return False

        wait_for(refused, "a write is refused: how much is free is looked up now and then")
        self.assertEqual(bytes(handle.pread(BLOCK, 0)), block_content(0, 1))
        self.cluster.wait_healthy("db")
        self.make_room()
        wait_for(lambda: not refused(), "a write is taken again")
        self.assertEqual(bytes(handle.pread(BLOCK, BLOCK)), block_content(1, 1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
