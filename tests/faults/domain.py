"""A datom domain whose processes run on separate hosts, started by us in the foreground: what ends by itself is noticed."""

import json
import signal
import socket
import time
import urllib.error
import urllib.request

import cluster as fixture
from hosts import Network

ZOOKEEPER_PORT = 2181
CONFIG_PORT = 7400
SERVER_PORT = 7401
NBD_PORT = 10809
SERVERS = ("vs1", "vs2", "vs3")


class Failure(Exception):
    """The domain did not do what it has to; the message is for the reader."""


def wait_for(condition, what, seconds=60, interval=0.05):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(interval)


class Process:
    """A service of the domain: one program on one host, which may be killed and started again."""

    def __init__(self, name, host, log, words, answers):
        self.name = name
        self.host = host
        self.log = log
        self._words = words
        self._answers = answers  # whether the service of this process is up
        self._process = None

    @property
    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def start(self):
        self._process = self.host.start(*self._words, log=self.log)

    def wait_up(self):
        def up():
            self.check()
            return self._answers()
        wait_for(up, lambda: f"{self.name} is up\n{self.tail()}")

    def check(self):
        """Raises Failure if it ended by itself."""
        if self._process and self._process.poll() is not None:
            raise Failure(f"{self.name} ended by itself with status {self._process.returncode}\n{self.tail()}")

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM, as an administrator stops it."""
        status = self._end(signal.SIGTERM)
        if status != 0:
            raise Failure(f"{self.name} ended with status {status} when it was stopped\n{self.tail()}")

    def _end(self, number):
        process, self._process = self._process, None
        process.send_signal(number)
        return process.wait(60)

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])


class Domain:
    def __init__(self, datom, folder):
        self.datom = datom
        self.folder = folder
        self.network = Network(["zookeeper", "config", *SERVERS, "client"])
        self.coordination = f"zk://{self.network['zookeeper'].address}:{ZOOKEEPER_PORT}"
        self.zookeeper = Process("ZooKeeper", self.network["zookeeper"], folder / "zookeeper.log",
                                 [fixture.TOP / "tools/zookeeper", folder / "zookeeper", ZOOKEEPER_PORT,
                                  self.network["zookeeper"].address], self._zookeeper_answers)
        self.config = self._service("cfg", "configservice", self.network["config"], CONFIG_PORT)
        self.servers = {name: self._service(name, "volumeserver", self.network[name], SERVER_PORT) for name in SERVERS}

    def _service(self, name, kind, host, port):
        words = [self.datom, kind, "--root", self.root(name), "--service_name", name]
        return Process(name, host, self.folder / f"{name}.log", words, lambda: self._healthy(host, port))

    def root(self, name):
        return self.folder / name

    @property
    def processes(self):
        return [self.zookeeper, self.config, *self.servers.values()]

    def uri(self, server, volume):
        return f"nbd://{self.network[server].address}:{NBD_PORT}/{volume}"

    # ---- making it

    def up(self):
        self.zookeeper.start()
        self.zookeeper.wait_up()
        self.run("init", "--coordination", self.coordination)
        self._add_node("cfg", f"cfg=configservice:{CONFIG_PORT}", self.config.host)
        self.config.start()
        self.config.wait_up()
        for name in SERVERS:
            self._add_node(name, f"{name}=volumeserver:{SERVER_PORT}:{NBD_PORT}", self.servers[name].host)
            self.servers[name].start()
        for server in self.servers.values():
            server.wait_up()

    def _add_node(self, name, service, host):
        self.run("addnode", "--yes", "--coordination", self.coordination, "--name", name, "--nic_if", host.address,
                 "--service", service, "--root", self.root(name), host=host)

    def run(self, *words, host=None):
        return (host or self.config.host).run(self.datom, *words)

    def create(self, volume, size, access):
        self.run("volume", "create", volume, "--size", size, "--access", access, "--wait", 60, "--root", self.root("cfg"))

    # ---- looking at it, from the bridge

    def _zookeeper_answers(self):
        try:
            with socket.create_connection((self.zookeeper.host.address, ZOOKEEPER_PORT), 2) as stream:
                stream.sendall(b"srvr")
                return b"Mode" in stream.recv(4096)
        except OSError:
            return False

    def _get(self, host, port, path):
        try:
            with urllib.request.urlopen(f"http://{host.address}:{port}{path}", timeout=5) as answer:
                return answer.read()
        except (OSError, urllib.error.URLError):
            return None

    def _healthy(self, host, port):
        return self._get(host, port, "/healthz") is not None

    def info(self, volume):
        """The volume as the config service shows it; None while it does not answer."""
        text = self._get(self.config.host, CONFIG_PORT, f"/api/v1/volumes/{volume}")
        return json.loads(text) if text else None

    def leader(self, volume):
        """The name of the server that leads."""
        def find():
            info = self.info(volume)
            return info and info["leader"]
        return wait_for(find, lambda: f"{volume} has a leader: {self.describe(volume)}")

    def followers(self, volume):
        leader = self.leader(volume)
        return [name for name in SERVERS if name != leader]

    def is_healthy(self, volume):
        info = self.info(volume)
        return info is not None and info["state"] == "healthy"

    def make_leader(self, volume, wanted):
        """Stops the leaders that are not `wanted`, and starts them again, until that one leads."""
        def leads():
            leader = self.leader(volume)
            if leader == wanted:
                return True
            self.servers[leader].stop()
            wait_for(lambda: (self.info(volume) or {}).get("leader") not in (None, leader),
                     lambda: f"{volume} has another leader than {leader}: {self.describe(volume)}")
            self.servers[leader].start()
            self.servers[leader].wait_up()
            wait_for(lambda: self.is_healthy(volume), lambda: f"{volume} is healthy: {self.describe(volume)}")
            return False
        wait_for(leads, f"{wanted} leads {volume}")

    def describe(self, volume):
        return "\n".join([json.dumps(self.info(volume), indent=1),
                          *(f"--- {process.name}\n{process.tail()}" for process in self.processes)])

    def check(self):
        """Raises Failure if a process ended by a mistake of its own."""
        for process in self.processes:
            process.check()
        fixture.check_logs(self.folder)
