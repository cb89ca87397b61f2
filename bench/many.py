#!/usr/bin/env python3
"""`./dev bench --many [N]`: N volumes (500 if not said) on three volume servers of this machine.

How long it takes to create them, and how long until all are healthy; what a server costs while
nobody uses them: CPU, memory, disk of an empty replica, requests to ZooKeeper; and how long after a
kill -9 of the server that leads the most all of them serve again: their leaders say so, and the last
word has a read of each through NBD. Exit status 1 if something is worse than it should be.
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from cluster import HOST, Cluster  # noqa: E402
from playground import Failure, wait_until  # noqa: E402

SIZE = 64 << 20
MIB = 1 << 20
PATIENCE = 600
AT_ONCE = 8  # requests to the config service

# What it should be at most.
LIMITS = {"created_s": 60, "idle_cpu_percent": 3, "memory_mib": 500, "replica_disk_mib": 16,
          "zookeeper_requests_per_s": 100, "serve_again_s": 5}
WHAT = {"created_s": "created, s", "create_cpu_s": "CPU for it of all processes, s",
        "healthy_s": "all healthy, s after the first request",
        "idle_cpu_percent": "a server's CPU while idle, % of a core",
        "config_cpu_percent": "the config service's", "zookeeper_cpu_percent": "ZooKeeper's",
        "memory_mib": "a server's memory, MiB", "replica_disk_mib": "disk of an empty replica, MiB",
        "zookeeper_requests_per_s": "requests to ZooKeeper while idle, 1/s",
        "led_by_the_killed": "volumes led by the server that is killed",
        "serve_again_s": "all serve again, s after the kill -9",
        "median_again_s": "half of those serve again, s", "read_s": "each was read through NBD, s"}


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- asking


def request(port, method, path, body=None):
    connection = http.client.HTTPConnection(HOST, port, timeout=120)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    if answer.status >= 300:
        raise Failure(f"{method} {path}: {answer.status} {text.strip()}")
    return text


def api(cluster, method, path, body=None):
    return json.loads(request(cluster.state["ports"]["config"], method, f"/api/v1/{path}", body))


def volumes(cluster):
    found, after = [], ""
    while True:
        page = api(cluster, "GET", f"volumes?after={after}")
        found += page["volumes"]
        if not page.get("more"):
            return found
        after = found[-1]["name"]


def led_by(server):
    """Names of the volumes that this server leads and serves."""
    text = request(server.port, "GET", "/metrics")
    return {line.split('volume="')[1].split('"')[0] for line in text.splitlines()
            if line.startswith("datom_replica_leads{") and line.endswith(" 1")}


def zookeeper_received(cluster):
    with socket.create_connection((HOST, cluster.state["ports"]["zookeeper"]), 5) as stream:
        stream.sendall(b"srvr")
        text = b""
        while part := stream.recv(4096):
            text += part
    line = next(line for line in text.decode().splitlines() if line.startswith("Received:"))
    return int(line.split()[1])


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise Failure(f"process {pid} has no memory")


def disk_bytes(folder):
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*"))


# ---- the steps


def cpu_of_all(cluster):
    return sum(cpu_seconds(pid) for _, pid, _ in cluster.processes())


def create(cluster, names):
    def one(name):
        api(cluster, "POST", "volumes",
            {"name": name, "size": SIZE, "id": str(uuid.uuid4()), "wait_ms": 60000})
    began, cpu = time.monotonic(), cpu_of_all(cluster)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done, _ in enumerate(pool.map(one, names), 1):
            if done % 50 == 0:
                say(f"  {done} created after {time.monotonic() - began:.1f} s")
    created = time.monotonic() - began

    def healthy():
        return all(volume["state"] == "healthy" for volume in volumes(cluster))
    wait_until(healthy, PATIENCE, "all volumes are healthy")
    return {"created_s": created, "create_cpu_s": cpu_of_all(cluster) - cpu,
            "healthy_s": time.monotonic() - began}


def idle(cluster, seconds):
    """The worst of the servers."""
    pids = {name: pid for name, pid, _ in cluster.processes()}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    received, began = zookeeper_received(cluster), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    received = zookeeper_received(cluster) - received
    busy = {name: 100 * (cpu_seconds(pid) - before[name]) / passed for name, pid in pids.items()}
    servers = [server.service for server in cluster.servers]
    replicas = [folder for server in cluster.servers
                for folder in (server.root / server.service / "replicas").iterdir()]
    return {"idle_cpu_percent": max(busy[name] for name in servers),
            "config_cpu_percent": busy["cfg"], "zookeeper_cpu_percent": busy["ZooKeeper"],
            "memory_mib": max(memory_bytes(pids[name]) for name in servers) / MIB,
            "replica_disk_mib": max(disk_bytes(folder) for folder in replicas) / MIB,
            "zookeeper_requests_per_s": received / passed}


def read_each(cluster, server, names):
    """A read of every volume, so that no word of a server has to be taken for it."""
    import nbd
    for name in names:
        client = nbd.NBD()
        client.connect_uri(server.uri(name))
        client.pread(4096, 0)
        client.shutdown()


def kill(cluster, names):
    led = {server.service: led_by(server) for server in cluster.servers}
    victim = max(cluster.servers, key=lambda server: len(led[server.service]))
    others = [server for server in cluster.servers if server.service != victim.service]
    pid = cluster.service_pid(victim.root, victim.service)
    missing, again = set(names), {}
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while missing and time.monotonic() - began < PATIENCE:
        for server in others:
            for name in led_by(server) & missing:
                missing.discard(name)
                again[name] = time.monotonic() - began
        time.sleep(0.1)
    if missing:
        raise Failure(f"{len(missing)} volumes do not serve {PATIENCE} s after the kill")
    later = sorted(again[name] for name in led[victim.service]) or [0]
    began_reading = time.monotonic()
    read_each(cluster, others[0], names)
    return {"led_by_the_killed": len(led[victim.service]), "serve_again_s": later[-1],
            "median_again_s": later[len(later) // 2], "read_s": time.monotonic() - began_reading}


def measure(cluster, options):
    names = [f"v{number:04}" for number in range(options.volumes)]
    figures = {"volumes": options.volumes}
    figures |= create(cluster, names)
    say("  all are healthy")
    time.sleep(options.settle)
    figures |= idle(cluster, options.seconds)
    figures |= kill(cluster, names)
    return {key: round(value, 2) for key, value in figures.items()}


@contextlib.contextmanager
def running(options):
    base = tempfile.mkdtemp(prefix="datom-many-", dir=options.dir)
    cluster = Cluster(options.datom, Path(base) / "cluster")
    try:
        cluster.up(3)
        yield cluster
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for _, pid, _ in cluster.processes() if cluster.exists else []:
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(base, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench --many", description=__doc__)
    parser.add_argument("volumes", type=int, nargs="?", default=500, metavar="N")
    parser.add_argument("--datom", default=TOP / "build/release/datom", metavar="PROGRAM")
    parser.add_argument("--seconds", type=float, default=20, help="how long nobody uses them (20)")
    parser.add_argument("--settle", type=float, default=10, help="pause before that (10)")
    parser.add_argument("--dir", default=os.environ.get("TMPDIR", "/var/tmp"),
                        help="where there is room (default: TMPDIR, else /var/tmp)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    if options.volumes < 1:
        parser.error("N is at least 1")

    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        with running(options) as cluster:
            figures = measure(cluster, options)
    except Failure as failure:
        say(f"many: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.output == "json":
        print(json.dumps(figures, indent=1))
    else:
        for key, text in WHAT.items():
            limit = f"  (at most {LIMITS[key]})" if key in LIMITS else ""
            print(f"{text:<45} {figures[key]:>9.2f}{limit}")
    worse = [key for key, limit in LIMITS.items() if figures[key] > limit]
    for key in worse:
        say(f"many: {WHAT[key]}: {figures[key]}, expected at most {LIMITS[key]}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
