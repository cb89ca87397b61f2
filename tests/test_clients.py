"""The clients that people use, on a domain whose leader dies meanwhile."""

import os
import pathlib
import random
import shutil
import subprocess
import unittest

from cluster import MEGABYTE, PATIENCE, Cluster, TestCase, run, wait_for

SIZE = 128 * MEGABYTE
LONG = 3 * PATIENCE
os.environ["PATH"] += ":/usr/sbin:/sbin"


def make_image(path, size, seed):
    """Random bytes, runs of one byte, and holes."""
    source = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        while file.tell() < size:
            length = min(source.randrange(1, 300_000), size - file.tell())
            kind = source.randrange(3)
            if kind == 0:
                file.seek(length, os.SEEK_CUR)
            else:
                file.write(source.randbytes(length) if kind == 1 else bytes([source.randrange(1, 256)]) * length)


def make_tree(folder, files, seed):
    source = random.Random(seed)
    for number in range(files):
        directory = folder / f"d{number % 10}" / f"e{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        size = source.choice((0, 10, 4096, 50_000, 400_000))
        (directory / f"f{number}").write_bytes(source.randbytes(size))


class Clients(TestCase):
    """All clients speak to a server that keeps no replica, so that any member may die."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls, servers=4)

    def volume(self, name, size=SIZE):
        self.cluster.create(name, size)
        (through,) = self.cluster.others(*self.cluster.members(name))
        return through.uri(name)

    def path(self, name):
        return self.cluster.folder / name

    def start(self, *arguments):
        """A client in the background."""
        log = open(self.path("client.log"), "ab")
        self.addCleanup(log.close)
        process = subprocess.Popen([str(argument) for argument in arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def expect_success(self, process):
        self.assertEqual(process.wait(LONG), 0, self.path("client.log").read_text(errors="replace")[-4000:])

    def kill_leader_under(self, volume, process):
        """Kills the leader once the client has written something, and starts it again."""
        leader = self.cluster.leader(volume)
        before = self.cluster.info(volume)["commit_op"]
        wait_for(lambda: (self.cluster.info(volume)["commit_op"] or 0) > before + 20 or process.poll() is not None,
                 "the client writes")
        self.assertIsNone(process.poll(), "the client ended before the leader could be killed")
        leader.kill()
        self.cluster.leader_other_than(volume, leader)
        leader.start()

    def test_nbdinfo(self):
        uri = self.volume("info")
        self.assertEqual(run("nbdinfo", "--size", uri).stdout.strip(), str(SIZE))
        self.assertIn("export-size: 134217728 (128M)", run("nbdinfo", uri).stdout)
        self.assertIn("info", run("nbdinfo", "--list", uri.rsplit("/", 1)[0]).stdout)
        # All of it is a hole, until something is written.
        self.assertRegex(run("nbdinfo", "--map", uri).stdout, r"^\s*0\s+134217728\s+3\s")
        run("qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", uri)
        self.assertRegex(run("nbdinfo", "--map", uri).stdout, r"(?m)^\s*1048576\s+65536\s+0\s")

    def test_qemu_io(self):
        uri = self.volume("qemuio")
        commands = ["write -P 0x5a 0 4M", "write -P 0x11 123 4567", "write -z 1M 64k", "discard 2M 1M", "flush",
                    "read -P 0x5a 0 123", "read -P 0x11 123 4567", "read -P 0x5a 4690 1000", "read -P 0 1M 64k",
                    "read -P 0 2M 1M", "read -P 0x5a 3M 1M", "aio_write -P 0x22 8M 8M", "aio_flush", "read -P 0x22 8M 8M"]
        arguments = [word for command in commands for word in ("-c", command)]
        done = run("qemu-io", "-f", "raw", *arguments, uri)
        self.assertNotIn("verification failed", done.stdout)
        self.assertNotIn("failed", done.stderr)

    def test_nbdcopy_across_a_kill_of_the_leader(self):
        uri = self.volume("copy")
        make_image(self.path("image"), SIZE, seed=1)
        process = self.start("nbdcopy", "--request-size=65536", self.path("image"), uri)
        self.kill_leader_under("copy", process)
        self.expect_success(process)
        run("nbdcopy", uri, self.path("back"), timeout=LONG)
        run("cmp", self.path("image"), self.path("back"))

    def test_qemu_img(self):
        uri = self.volume("convert")
        make_image(self.path("raw"), SIZE, seed=2)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.path("raw"), self.path("qcow2"))
        run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", self.path("qcow2"), uri, timeout=LONG)
        run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", self.path("qcow2"), uri, timeout=LONG)
        # It is a comparison that can fail.
        run("qemu-io", "-f", "raw", "-c", "write -P 0x77 5M 1", uri)
        different = run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", self.path("qcow2"), uri, check=False, timeout=LONG)
        self.assertEqual(different.returncode, 1, different.stderr)

    def test_fio_verifies_across_a_kill_of_the_leader(self):
        uri = self.volume("fio")
        process = self.start("fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bsrange=4k-128k",
                             "--size=96M", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
                             "--randseed=5", f"--aux-path={self.cluster.folder}", "--verify_state_save=0")
        self.kill_leader_under("fio", process)
        self.expect_success(process)

    @unittest.skipUnless(os.geteuid() == 0 and pathlib.Path("/dev/fuse").exists() and pathlib.Path("/dev/loop-control").exists(),
                         "mounting needs root, FUSE and loop devices")
    def test_ext4_across_a_kill_of_the_leader(self):
        uri = self.volume("ext4")
        disk, mount, tree = self.path("disk"), self.path("mount"), self.path("tree")
        for folder in (disk, mount, tree):
            folder.mkdir()
        make_tree(tree, files=300, seed=3)
        fuse = self.start("nbdfuse", disk / "volume", uri)
        wait_for(lambda: (disk / "volume").exists(), "nbdfuse mounts")
        run("mkfs.ext4", "-q", disk / "volume")
        run("mount", "-o", "loop", disk / "volume", mount)
        copying = self.start("bash", "-c", f"set -e; for i in 1 2; do cp -r {tree} {mount}/$i; sync -f {mount}; done")
        self.kill_leader_under("ext4", copying)
        self.expect_success(copying)
        shutil.rmtree(mount / "1" / "d0")
        run("umount", mount, timeout=LONG)
        run("e2fsck", "-fn", disk / "volume", timeout=LONG)
        run("fusermount3", "-u", disk)
        self.expect_success(fuse)

        # What another server has is the same filesystem.
        image = self.path("ext4.image")
        run("nbdcopy", self.cluster.leader("ext4").uri("ext4"), image, timeout=LONG)
        run("e2fsck", "-fn", image, timeout=LONG)
        run("mount", "-o", "loop,ro", image, mount)
        run("diff", "-r", tree, mount / "2", timeout=LONG)
        shutil.rmtree(tree / "d0")
        run("diff", "-r", tree, mount / "1", timeout=LONG)
        run("umount", mount)


if __name__ == "__main__":
    unittest.main(verbosity=2)
