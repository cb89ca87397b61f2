"""A datom domain of real processes for tests: ZooKeeper, a config service and volume servers, each volume server a node of
its own, all on 127.0.0.1, all below one temporary directory.

Everything goes through the real command line (environment variable DATOM: the program). What a test leaves running is
found again by the temporary directory in its command line, so nothing else is ever killed.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import nbd

TOP = pathlib.Path(__file__).resolve().parent.parent
DATOM = os.environ.get("DATOM", str(TOP / "build/release/datom"))
HOST = "127.0.0.1"

# How long a condition may take before a test gives up. Generous: machines are slow and loaded, and a condition that comes
# true ends the wait at once.
PATIENCE = 90
# Longest that one test may take. Below the time limit of ctest, so that it is the test that cleans up.
TEST_LIMIT = 400

MEGABYTE = 1 << 20


class CommandFailed(AssertionError):
    def __init__(self, arguments, done):
        super().__init__(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        self.returncode = done.returncode
        self.text = done.stdout + done.stderr


def run(*arguments, timeout=PATIENCE, check=True, **options):
    """Runs a command to its end; CommandFailed with its output unless it succeeds."""
    arguments = [str(argument) for argument in arguments]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, errors="replace", **options)
    if check and done.returncode != 0:
        raise CommandFailed(arguments, done)
    return done


def wait_for(condition, what, timeout=PATIENCE, interval=0.05):
    """Returns what `condition()` returns once it is true; `what` may be a text or a function that makes one."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(interval)


# Ports that were given out by this process, so that no two services get the same one before they listen.
_given_ports = set()


def free_ports(count):
    """The first of `count` ports in a row that nobody listens on, below the range from which the kernel takes ports for
    outgoing connections."""
    while True:
        first = random.randrange(12000, 32000 - count)
        ports = range(first, first + count)
        if _given_ports.isdisjoint(ports) and all(is_free(port) for port in ports):
            _given_ports.update(ports)
            return first


def free_port():
    return free_ports(1)


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


# ---- processes and folders of a test, found by the folder's name


def processes_below(folder):
    """Processes that have `folder` in their command line, except this one."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if pid != os.getpid() and str(folder).encode() in words:
            found.append(pid)
    return found


def clear(folder):
    """Kills every process of `folder`, unmounts what is mounted below it, removes it."""
    deadline = time.monotonic() + 30
    while (pids := processes_below(folder)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    mounted = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounted if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)


# Ends with its standard input, that is with the process that started it, however that ended.
_GUARD = "import sys; folder = sys.stdin.readline().strip(); sys.stdin.read(); import cluster; cluster.clear(folder)"


def temporary_folder(case):
    """A folder that goes, with its processes, when the test `case` (or its class) ends, or when this process does."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="datom-test-"))
    guard = subprocess.Popen([sys.executable, "-c", _GUARD], stdin=subprocess.PIPE, text=True, cwd=TOP / "tests",
                             start_new_session=True)
    guard.stdin.write(f"{folder}\n")
    guard.stdin.flush()

    def end():
        clear(folder)
        guard.stdin.close()
        guard.wait()

    add_cleanup(case, end)
    return folder


def add_cleanup(case, action):
    """For a test, or for a class of tests."""
    if isinstance(case, type):
        case.addClassCleanup(action)
    else:
        case.addCleanup(action)


# What a service writes when it ends by a mistake of its own, which a test might not notice: it was being stopped anyway.
_SIGNS_OF_MISTAKES = ("check failed", "terminate called", "Sanitizer", "runtime error:")


def check_logs(folder):
    """Raises AssertionError if a process of the test ended by a mistake of its own."""
    for path in folder.rglob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if any(sign in line for sign in _SIGNS_OF_MISTAKES):
                raise AssertionError(f"{path}: {line}")


# ---- the domain


def datom(*arguments, root=None, check=True, timeout=PATIENCE, **options):
    """Runs the program; `root` is the node that it runs on."""
    where = ["--root", str(root)] if root else []
    return run(DATOM, *arguments, *where, check=check, timeout=timeout, **options)


class Node:
    """A machine's root, and the service that it runs."""

    def __init__(self, root, service, kind, port, nbd_port=0):
        self.root = root
        self.service = service
        self.kind = kind
        self.port = port
        self.nbd_port = nbd_port

    def spec(self):
        ports = f"{self.port}:{self.nbd_port}" if self.nbd_port else f"{self.port}"
        return f"{self.service}={self.kind}:{ports}"

    def uri(self, volume):
        return f"nbd://{HOST}:{self.nbd_port}/{volume}"

    def log(self):
        path = self.root / "log" / f"{self.service}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def keeps(self, volume):
        """Whether there is a replica of the volume (by id) on its disk."""
        return (self.root / self.service / "replicas" / volume).exists()

    def pid(self):
        return int((self.root / "run" / f"{self.service}.pid").read_text())

    def start(self):
        datom("startservice", self.service, "--wait", PATIENCE, root=self.root, timeout=PATIENCE + 10)

    def stop(self):
        datom("stopservice", self.service, "--wait", PATIENCE, root=self.root, timeout=PATIENCE + 10)

    def signal(self, number):
        os.kill(self.pid(), number)

    def kill(self):
        """kill -9; returns when the process is gone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_running(pid), f"{self.service} is gone after SIGKILL")

    def pause(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


class ZooKeeper:
    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.process = None

    def start(self):
        with open(self.folder / "zookeeper.log", "ab") as log:
            self.process = subprocess.Popen([TOP / "tools/zookeeper", self.folder / "zookeeper", str(self.port)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self._answers, lambda: f"ZooKeeper answers: {(self.folder / 'zookeeper.log').read_text()}")

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"ZooKeeper ended: {(self.folder / 'zookeeper.log').read_text()}")
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as stream:
                stream.sendall(b"srvr")
                return b"Mode" in stream.recv(4096)
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()


class Cluster:
    """Nodes n0 with config service cfg1, n1 with volume server vs1, and so on."""

    def __init__(self, case, servers=3, properties=None):
        self.folder = temporary_folder(case)
        self.zookeeper = ZooKeeper(self.folder)
        self.zookeeper.start()
        add_cleanup(case, self.zookeeper.kill)
        self.coordination = f"zk://{HOST}:{self.zookeeper.port}"
        datom("init", "--coordination", self.coordination)
        add_cleanup(case, lambda: check_logs(self.folder))
        self.config = self.add_node("n0", "cfg1", "configservice")
        self.config.start()
        for name, value in (properties or {}).items():
            datom("property", "set", name, value, root=self.config.root)
        self.servers = [self.add_node(f"n{i}", f"vs{i}", "volumeserver") for i in range(1, servers + 1)]
        for server in self.servers:
            server.start()

    def add_node(self, name, service, kind):
        node = Node(self.folder / name, service, kind, free_port(), free_port() if kind == "volumeserver" else 0)
        # The first node is made before there is a config service; the others find it through coordination.
        datom("addnode", "--yes", "--coordination", self.coordination, "--name", name, "--nic_if", HOST,
              "--service", node.spec(), root=node.root)
        return node

    def server(self, service):
        return next(server for server in self.servers if server.service == service)

    def others(self, *servers):
        return [server for server in self.servers if server not in servers]

    # ---- volumes

    def create(self, name, size=64 * MEGABYTE, replicas=3, access="exclusive"):
        datom("volume", "create", name, "--size", size, "--replicas", replicas, "--access", access, "--wait", 60,
              root=self.config.root)
        self.wait_healthy(name)

    def info(self, name):
        """The volume as the config service shows it; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.config.port}/api/v1/volumes/{name}", timeout=30) as answer:
                return json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def leader(self, name):
        """The volume server that serves the volume as leader."""
        def find():
            info = self.info(name)
            return info and info["leader"]
        return self.server(wait_for(find, lambda: f"{name} has a leader: {self.describe(name)}"))

    def members(self, name):
        """The volume servers that keep the volume's replicas."""
        return [self.server(member["service"]) for member in self.info(name)["members"]]

    def followers(self, name):
        leader = self.leader(name)
        return [server for server in self.members(name) if server is not leader]

    def wait_healthy(self, name):
        """Waits until the volume's leader serves and every voter is functional."""
        def healthy():
            info = self.info(name)
            return info is not None and info["state"] == "healthy"
        wait_for(healthy, lambda: f"{name} is healthy: {self.describe(name)}")

    def wait_equal(self, name):
        """Waits until every member has applied everything."""
        def equal():
            info = self.info(name)
            if info is None or info["state"] != "healthy":
                return False
            return len({(member["applied_op"], member["last_op"]) for member in info["members"]}) == 1
        wait_for(equal, lambda: f"the members of {name} are equal: {self.describe(name)}")

    def make_leader(self, name, wanted):
        """Makes `wanted` the leader: stops the leaders that are not, one after another, and starts them again."""
        deadline = time.monotonic() + PATIENCE
        while (leader := self.leader(name)) is not wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"{wanted.service} does not become the leader: {self.describe(name)}")
            leader.stop()
            self.leader_other_than(name, leader)
            leader.start()
            self.wait_healthy(name)

    def leader_other_than(self, name, server):
        def find():
            info = self.info(name)
            leader = info and info["leader"]
            return leader if leader != server.service else None
        return self.server(wait_for(find, lambda: f"{name} has another leader than {server.service}: "
                                                  f"{self.describe(name)}"))

    def describe(self, name):
        """What helps to understand a failure."""
        text = json.dumps(self.info(name), indent=1)
        for node in [self.config, *self.servers]:
            text += f"\n--- {node.service}\n" + "\n".join(node.log().splitlines()[-40:])
        return text


def connect(server, volume):
    """A connected libnbd handle."""
    handle = nbd.NBD()
    handle.connect_uri(server.uri(volume))
    return handle


class TestCase(unittest.TestCase):
    """A test that ends, and cleans up, after TEST_LIMIT at the latest."""

    def setUp(self):
        def expire(_number, _frame):
            raise AssertionError(f"the test takes longer than {TEST_LIMIT} s")
        signal.signal(signal.SIGALRM, expire)
        signal.alarm(TEST_LIMIT)
        self.addCleanup(signal.alarm, 0)
