"""What `./dev bench` measures: datom as a cluster of processes, and what it is compared with.

A system serves one disk of a given size over NBD on TCP, from files in a folder that it is given.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from cluster import CONFIG_SERVICE, HOST, Cluster, unusual_ports  # noqa: E402
from playground import Failure, free_ports, run, wait_until  # noqa: E402

VOLUME = "bench"
REPLICAS = 3
START_SECONDS = 60


class Datom:
    """Three volume servers, a config service and ZooKeeper, a process each."""

    lasting_threads = True

    def __init__(self, name, program, folder, size):
        self.name = name
        self.cluster = Cluster(program, folder / name)
        self.size = size
        self.uri = None
        self.pids = {}  # what a process is -> its id

    def start(self):
        self.cluster.up(REPLICAS, unusual_ports)
        self.cluster.command("volume", "create", VOLUME, "--size", self.size, "--wait", START_SECONDS)

    def prepare(self):
        """Before every run: the volume is healthy, and the client will ask the leader's server."""
        def healthy():
            volume = self.cluster.query("volume", "info", VOLUME)
            return volume if volume["state"] == "healthy" else None
        leader = wait_until(healthy, START_SECONDS, f"{self.name}'s volume is healthy")["leader"]
        self.uri = self.cluster.server(leader).uri(VOLUME)
        self.pids = {"zookeeper": self.cluster.zookeeper_pid(),
                     "config": self.cluster.service_pid(self.cluster.first_root, CONFIG_SERVICE)}
        followers = 0
        for server in self.cluster.servers:
            followers += server.service != leader
            role = "leader" if server.service == leader else f"follower{followers}"
            self.pids[role] = self.cluster.service_pid(server.root, server.service)
        missing = [role for role, pid in self.pids.items() if pid is None]
        if missing:
            raise Failure(f"{self.name}: no process any more: {', '.join(missing)}")

    def stop(self):
        if self.cluster.exists:
            self.cluster.stop()


class Reference:
    """A program that serves a file, of one copy, in the same folder."""

    lasting_threads = False  # one for a connection: what it did is not seen once it has ended

    def __init__(self, name, folder, size):
        self.name = name
        self.file = folder / f"{name}.img"
        self.log_file = folder / f"{name}.log"
        self.size = size
        self.process = None
        self.uri = None
        self.pids = {}

    def command(self, port):
        raise NotImplementedError

    def start(self):
        with open(self.file, "wb") as file:
            file.truncate(self.size)
        port = free_ports(1)
        with open(self.log_file, "wb") as log:
            try:
                self.process = subprocess.Popen(self.command(port), stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log, start_new_session=True)
            except FileNotFoundError as error:
                raise Failure(f"{error.filename} is not installed: ./dev deps installs it") from None
        self.uri = f"nbd://{HOST}:{port}/"
        self.pids = {self.name: self.process.pid}

        def answers():
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended at once: {self.log_file.read_text()[-500:]}")
            with contextlib.suppress(Failure):
                return run("nbdinfo", "--size", self.uri, seconds=10)
            return None
        wait_until(answers, START_SECONDS, f"{self.name} answers")

    def prepare(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} has ended: {self.log_file.read_text()[-500:]}")

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class NbdkitFile(Reference):
    """nbdkit's file plugin: a write is answered once it is in the page cache."""

    def command(self, port):
        return ["nbdkit", "--foreground", "--exit-with-parent", "--ipaddr", HOST, "--port",
                str(port), "file", str(self.file)]


class QemuNbd(Reference):
    """qemu-nbd past the page cache: a write is answered once it is on the device, not flushed."""

    def command(self, port):
        return ["qemu-nbd", "--persistent", "--shared=4", "--format=raw", "--cache=none",
                f"--aio={qemu_aio()}", f"--bind={HOST}", f"--port={port}", str(self.file)]


def qemu_aio():
    """io_uring where the kernel has it for everybody."""
    setting = Path("/proc/sys/kernel/io_uring_disabled")
    allowed = not setting.exists() or setting.read_text().strip() == "0"
    return "io_uring" if allowed else "native"


SYSTEMS = ["datom", "nbdkit-file", "qemu-nbd"]
OTHER_DATOM = "datom-other"  # another program of ours, with --against


def make_system(name, options, folder):
    if name in ("datom", OTHER_DATOM):
        program = options.program if name == "datom" else options.against
        if not os.access(program, os.X_OK):
            raise Failure(f"there is no program {program}: ./dev build makes it")
        return Datom(name, program, folder, options.size)
    return {"nbdkit-file": NbdkitFile, "qemu-nbd": QemuNbd}[name](name, folder, options.size)
