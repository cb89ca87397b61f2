#!/usr/bin/env python3
"""`./dev bench --sync`: a follower is away while clients write, and comes back.

fio writes 4 KiB at random places of a volume, 32 at a time, all the while. One follower is killed (-9),
stays away, and is started again. Shown: how long after its start it is functional again, what
clients had meanwhile of what they had right before, and what was sent to it as a multiple of what
had changed: the blocks written from the kill until it was functional, each counted once. Exit status
1 if something is worse than it should be.
"""

import argparse
import contextlib
import http.client
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from bench import parse_size, say, workplace  # noqa: E402
from cluster import HOST  # noqa: E402
from measure import JOBS, fill, fio_command  # noqa: E402
from playground import Failure, wait_until  # noqa: E402
from systems import VOLUME, Datom  # noqa: E402

JOB = next(job for job in JOBS if job.name == "w4k_qd32")
BLOCK = 4096
PATIENCE = 300

# What it should be at most, or at least.
MOST = {"functional_s": 15, "moved_per_changed": 1.2}
LEAST = {"clients_part": 0.7}
WHAT = {"away_s": "away, s", "iops_before": "clients, 1/s: all servers there",
        "iops_away": "one follower away", "iops_sync": "while it comes back",
        "clients_part": "that is, of what they had without it",
        "functional_s": "functional again, s after its start", "changed_mib": "changed, MiB",
        "moved_mib": "copied to it, MiB", "moved_per_changed": "that is, of what changed"}


def metrics(port):
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def metric(text, name):
    """The value for our volume; 0 where there is none."""
    for line in text.splitlines():
        if line.startswith(f"{name}{{") and f'volume="{VOLUME}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0


@dataclass(frozen=True)
class Sample:
    at: float
    writes: float


class Clock(threading.Thread):
    """What the leader has committed, four times a second."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.samples = []
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.25):
            with contextlib.suppress(OSError, http.client.HTTPException):
                text = metrics(self.port)
                self.samples.append(Sample(time.monotonic(), metric(text, "datom_changes_total")))

    def writes(self, begin, end):
        """(writes, seconds) between the samples next to these times."""
        inside = [each for each in self.samples if begin - 0.3 <= each.at <= end + 0.3]
        if len(inside) < 2:
            raise Failure("the leader told too little of what it did")
        return inside[-1].writes - inside[0].writes, inside[-1].at - inside[0].at

    def rate(self, begin, end):
        writes, seconds = self.writes(begin, end)
        return writes / seconds


def distinct_blocks(writes, blocks):
    """How many blocks that many writes at random places touch, about."""
    return blocks * -math.expm1(-writes / blocks)


@contextlib.contextmanager
def load(system, size):
    command = [*fio_command(system, size, JOB), "--norandommap", "--time_based",
               "--runtime=36000"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    try:
        yield process
        if process.poll() is not None:
            raise Failure(f"fio ended: {process.stderr.read().decode()[-500:]}")
    finally:
        process.kill()
        process.wait()


def state_of(system, service):
    members = system.cluster.query("volume", "info", VOLUME)["members"]
    return next(member["state"] for member in members if member["service"] == service)


def measure(system, options):
    system.start()
    fill(system, options.size)
    system.prepare()
    say("  up and filled")
    cluster = system.cluster
    leader = cluster.query("volume", "info", VOLUME)["leader"]
    away = next(server for server in cluster.servers if server.service != leader)
    clock = Clock(cluster.server(leader).port)
    clock.start()
    with load(system, options.size):
        time.sleep(options.before)
        killed = time.monotonic()
        os.kill(cluster.service_pid(away.root, away.service), signal.SIGKILL)
        say(f"  {away.service} is killed, {leader} leads")
        time.sleep(options.away)
        started = time.monotonic()
        cluster.command("startservice", away.service, "--wait", PATIENCE, root=away.root)
        say(f"  it is up again after {time.monotonic() - started:.1f} s")
        wait_until(lambda: state_of(system, away.service) == "FOLLOWER_FUNCTIONAL", PATIENCE,
                   f"{away.service} is functional")
        functional = time.monotonic()
        moved = metric(metrics(away.port), "datom_sync_bytes_total")
        time.sleep(1)
    clock.ended.set()
    clock.join()
    if cluster.query("volume", "info", VOLUME)["leader"] != leader:
        raise Failure("another server leads by now: nothing is known")
    writes, _ = clock.writes(killed, functional)
    changed = distinct_blocks(writes, options.size // BLOCK) * BLOCK
    calm = min(options.away, 10)
    figures = {"away_s": started - killed,
               "iops_before": clock.rate(killed - min(options.before, 10), killed),
               "iops_away": clock.rate(started - calm, started),
               "iops_sync": clock.rate(started, functional),
               "functional_s": functional - started,
               "changed_mib": changed / 2**20, "moved_mib": moved / 2**20,
               "moved_per_changed": moved / changed}
    figures["clients_part"] = figures["iops_sync"] / figures["iops_away"]
    return {key: round(figures[key], 2) for key in WHAT}


def show(figures):
    for key, text in WHAT.items():
        limit = f"  (at most {MOST[key]})" if key in MOST else ""
        limit = f"  (at least {LEAST[key]})" if key in LEAST else limit
        print(f"{text:<40} {figures[key]:>10.2f}{limit}")


def worse(figures):
    """Names of the figures that miss what they should be."""
    return ([key for key, limit in MOST.items() if figures[key] > limit] +
            [key for key, limit in LEAST.items() if figures[key] < limit])


def main():
    parser = argparse.ArgumentParser(prog="./dev bench --sync", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=2 << 30, help="of the volume (2G)")
    parser.add_argument("--before", type=float, default=10, metavar="S",
                        help="seconds of load before the kill (10)")
    parser.add_argument("--away", type=float, default=60, metavar="S",
                        help="seconds until it is started again (60)")
    parser.add_argument("--program", default=TOP / "build/release/datom", metavar="PATH")
    parser.add_argument("--root", default=TOP / "build", metavar="DIR",
                        help="a folder on the filesystem to measure on (default: build)")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with data and logs")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()

    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        with workplace(options) as folder, contextlib.ExitStack() as ends:
            system = Datom("datom", options.program, folder, options.size)
            ends.callback(system.stop)
            figures = measure(system, options)
    except Failure as failure:
        say(f"sync: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.output == "json":
        print(json.dumps(figures, indent=1))
    else:
        show(figures)
    for key in worse(figures):
        say(f"sync: {WHAT[key]}: {figures[key]} is not what it should be")
    return 1 if worse(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
