#!/usr/bin/env python3
"""`./dev cluster`: a datom domain of real processes on this machine, to work with.

A ZooKeeper, a config service and some volume servers on 127.0.0.1, each volume server a node of its
own, set up with the commands that an administrator uses. They go on running until `down`.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from playground import Failure, free_ports, run, wait_until

TOP = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
CONFIG_SERVICE = "cfg"
MOST_SERVERS = 16
START_SECONDS = 60
STOP_SECONDS = 60


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_ports(servers):
    """ZooKeeper's and the config service's port, and the first ones of the volume servers and of
    their NBD: the usual ones, or others where one of these is taken."""
    usual = {"zookeeper": 2181, "config": 7400, "servers": 7401, "nbd": 10809}
    wanted = [usual["zookeeper"], usual["config"]]
    wanted += [usual[kind] + i for kind in ("servers", "nbd") for i in range(servers)]
    return usual if all(is_free(port) for port in wanted) else unusual_ports(servers)


def unusual_ports(servers):
    """The same, such that clusters that start at the same time hardly meet."""
    first = free_ports(2 + 2 * servers)
    return {"zookeeper": first, "config": first + 1, "servers": first + 2,
            "nbd": first + 2 + servers}


def command_line(pid):
    """Its words; empty where there is no such process, or only its remains."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


class VolumeServer:
    def __init__(self, root, number, ports):
        self.node = f"n{number}"
        self.service = f"vs{number}"
        self.root = root / self.node
        self.port = ports["servers"] + number - 1
        self.nbd_port = ports["nbd"] + number - 1
        self.spec = f"{self.service}=volumeserver:{self.port}:{self.nbd_port}"

    def uri(self, volume):
        return f"nbd://{HOST}:{self.nbd_port}/{volume}"


class Cluster:
    """The cluster of a folder. What it is made of is kept there in cluster.json, before it is made,
    so that whatever happens `down` knows what to stop and remove."""

    def __init__(self, datom, root):
        self.datom = Path(datom).resolve()
        self.root = Path(root).resolve()
        self.state_file = self.root / "cluster.json"
        self.state = None
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())

    # ---- what it is made of

    @property
    def exists(self):
        return self.state is not None

    @property
    def coordination(self):
        return f"zk://{HOST}:{self.state['ports']['zookeeper']}"

    @property
    def servers(self):
        return [VolumeServer(self.root, i + 1, self.state["ports"])
                for i in range(self.state["servers"])]

    def server(self, service):
        return next(server for server in self.servers if server.service == service)

    @property
    def first_root(self):
        """The root of the node that has the config service too."""
        return self.servers[0].root

    def command(self, *words, root=None):
        return run(self.datom, *words, "--root", root or self.first_root)

    def query(self, *words):
        return json.loads(self.command(*words, "-o", "json"))

    def _save(self):
        self.root.mkdir(parents=True, exist_ok=True)
        new = self.state_file.with_suffix(".new")
        new.write_text(json.dumps(self.state, indent=1) + "\n")
        new.rename(self.state_file)

    # ---- processes

    def service_pid(self, root, service):
        """Of the running process; None where there is none."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((root / "run" / f"{service}.pid").read_text())
            if service in command_line(pid) and str(root) in command_line(pid):
                return pid
        return None

    def zookeeper_pid(self):
        pid = self.state.get("zookeeper_pid")
        return pid if pid and str(self.root / "zookeeper/zoo.cfg") in command_line(pid) else None

    def _zookeeper_answers(self):
        with contextlib.suppress(OSError):
            with socket.create_connection((HOST, self.state["ports"]["zookeeper"]), 1) as stream:
                stream.sendall(b"srvr")
                return b"Mode" in stream.recv(4096)
        return False

    def _start_zookeeper(self):
        if self.zookeeper_pid():
            return
        log_file = self.root / "zookeeper.log"
        with open(log_file, "ab") as log:
            process = subprocess.Popen(
                [TOP / "tools/zookeeper", self.root / "zookeeper",
                 str(self.state["ports"]["zookeeper"])],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root,
                start_new_session=True)
        self.state["zookeeper_pid"] = process.pid
        self._save()

        def answers():
            if process.poll() is not None:
                raise Failure(f"ZooKeeper ended at once:\n{log_file.read_text()[-2000:]}")
            return self._zookeeper_answers()
        wait_until(answers, START_SECONDS, "ZooKeeper answers")

    def _stop_zookeeper(self):
        pid = self.zookeeper_pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)  # ours when we started it
            wait_until(lambda: not self.zookeeper_pid(), STOP_SECONDS, "ZooKeeper has stopped")

    def _add_nodes(self):
        for server in self.servers:
            specs = ["--service", server.spec]
            if server.root == self.first_root:
                specs += ["--service",
                          f"{CONFIG_SERVICE}=configservice:{self.state['ports']['config']}"]
            if not (server.root / "node.json").exists():
                self.command("addnode", "--yes", "--coordination", self.coordination, "--name",
                             server.node, "--nic_if", HOST, *specs, root=server.root)
            if server.root == self.first_root:
                self._start(server.root, CONFIG_SERVICE)

    def _start(self, root, service):
        self.command("startservice", service, "--wait", START_SECONDS, root=root)

    # ---- up, down

    def up(self, servers, ports=choose_ports):
        """Makes and starts what is not there or not running."""
        if self.exists and servers not in (None, self.state["servers"]):
            raise Failure(f"{self.root} is a cluster of {self.state['servers']} volume servers, "
                          f"asked for {servers}: take it down first")
        if not self.exists:
            count = servers or 3
            self.state = {"servers": count, "ports": ports(count), "made": False,
                          "made_root": not self.root.exists()}
            self._save()
        self._start_zookeeper()
        if not self.state["made"]:
            self.command("init", "--coordination", self.coordination)
            self.state["made"] = True
            self._save()
        self._add_nodes()
        for server in self.servers:
            self._start(server.root, server.service)

    def _stop_service(self, root, service):
        """In its order; by force where it does not end in time. Says so in that case."""
        pid = self.service_pid(root, service)
        if pid is None:
            return
        try:
            self.command("stopservice", service, "--wait", STOP_SECONDS, root=root)
        except Failure as failure:
            print(f"{failure}\ncluster: killing {service} (pid {pid})", file=sys.stderr)
            if self.service_pid(root, service) == pid:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.service_pid(root, service) is None, STOP_SECONDS,
                       f"{service} is gone")

    def stop(self):
        """Stops every process, the volume servers first."""
        for server in self.servers:
            self._stop_service(server.root, server.service)
        self._stop_service(self.first_root, CONFIG_SERVICE)
        self._stop_zookeeper()

    def remove(self):
        """Removes what up() made, and the folder if it made that and nothing else is in it."""
        for folder in [*(server.root for server in self.servers), self.root / "zookeeper"]:
            if folder.exists():
                shutil.rmtree(folder)
        (self.root / "zookeeper.log").unlink(missing_ok=True)
        self.state_file.unlink()
        if self.state["made_root"] and not any(self.root.iterdir()):
            self.root.rmdir()
        self.state = None

    # ---- what there is to say

    def processes(self):
        """[(name, pid or None, where it is reached)]"""
        ports = self.state["ports"]
        found = [("ZooKeeper", self.zookeeper_pid(), self.coordination),
                 (CONFIG_SERVICE, self.service_pid(self.first_root, CONFIG_SERVICE),
                  f"http://{HOST}:{ports['config']}/")]
        found += [(server.service, self.service_pid(server.root, server.service),
                   f"nbd://{HOST}:{server.nbd_port}/") for server in self.servers]
        return found

    def describe(self):
        lines = [f"in {self.root}"]
        for name, pid, where in self.processes():
            lines.append(f"  {name:<10} {f'pid {pid}' if pid else 'down':<12} {where}")
        return "\n".join(lines)


def shown(path):
    """As short as it can be typed here."""
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def up(cluster, options):
    try:
        cluster.up(options.servers)
    except (Failure, KeyboardInterrupt):
        print("cluster: it is not up as a whole; ./dev cluster down removes it", file=sys.stderr)
        raise
    print(cluster.describe())
    print(f"try:\n"
          f"  {shown(cluster.datom)} volume create db --size 1G --root {shown(cluster.first_root)}\n"
          f"  {shown(cluster.datom)} status --root {shown(cluster.first_root)}\n"
          f"  nbdinfo {cluster.servers[0].uri('db')}")
    return 0


def status(cluster, _options):
    if not cluster.exists:
        print(f"no cluster in {cluster.root}: ./dev cluster up makes one")
        return 3
    print(cluster.describe())
    down = [name for name, pid, _ in cluster.processes() if not pid]
    if CONFIG_SERVICE not in down:
        print("\n" + cluster.command("status").rstrip())
    return 1 if down else 0


def down(cluster, options):
    if not cluster.exists:
        print(f"no cluster in {cluster.root}")
        return 0
    cluster.stop()
    if options.keep:
        print(f"stopped; its data stay in {cluster.root}: ./dev cluster up starts it again")
    else:
        cluster.remove()
        print("stopped and removed")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="./dev cluster", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", metavar="DIR", default=TOP / "build/cluster",
                        help="where it keeps everything (default: build/cluster)")
    common.add_argument("--datom", metavar="PROGRAM", default=TOP / "build/release/datom",
                        help="default: build/release/datom")
    commands = parser.add_subparsers(dest="command", required=True, metavar="up|status|down")
    command = commands.add_parser("up", parents=[common], help="make it, or start it again")
    command.add_argument("--servers", type=int, metavar="N", choices=range(1, MOST_SERVERS + 1),
                         help="how many volume servers (default: 3)")
    commands.add_parser("status", parents=[common],
                        help="its processes and datom status; exit status 1 if one is down, 3 if "
                             "there is no cluster")
    command = commands.add_parser("down", parents=[common], help="stop it and remove its data")
    command.add_argument("--keep", action="store_true", help="keep the data")
    options = parser.parse_args()
    try:
        cluster = Cluster(options.datom, options.root)
        return {"up": up, "status": status, "down": down}[options.command](cluster, options)
    except Failure as failure:
        print(f"cluster: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
