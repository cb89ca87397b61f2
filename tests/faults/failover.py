#!/usr/bin/env python3
"""`./dev failover`: how long clients wait when the leader's process is killed.

A cluster of processes on 127.0.0.1, and a client that writes 16 blocks at a time through a server
that survives. Again and again the leader gets a kill -9; the time counts from there to the first
acknowledgement of a write that was sent after it. Then the killed server is started, and the next
turn begins when the volume is healthy. In the end everything that was acknowledged is read back
through every server. Exit status 1 if the median is 1 s or more, or the worst 3 s or more.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests"))

import cluster as fixture  # noqa: E402
from content import BLOCK, Writer, WriteLog  # noqa: E402

VOLUME = "db"
SIZE = 64 << 20
DEPTH = 16
WARM_UP = 300  # acknowledged writes before the kill
MEDIAN_LIMIT = 1.0
WORST_LIMIT = 3.0


class TimedLog(WriteLog):
    """Remembers the first acknowledgement among the writes that began after `mark()`."""

    def __init__(self, blocks):
        super().__init__(blocks)
        self._new = None
        self.acknowledged_at = None

    def mark(self):
        self.acknowledged_at = None
        self._new = set()

    def begin(self, block):
        version = super().begin(block)
        if self._new is not None:
            self._new.add((block, version))
        return version

    def acknowledge(self, block, version):
        super().acknowledge(block, version)
        if self._new and (block, version) in self._new:
            self.acknowledged_at = time.monotonic()
            self._new = None


@dataclass
class Kill:
    killed: str   # volume servers
    through: str
    successor: str
    pause_ms: float
    healthy_after_s: float  # of the start of the killed one


def kill_leader(cluster, log, number):
    leader = cluster.leader(VOLUME)
    # The one that will lead and the one that will not, as it comes.
    through = cluster.others(leader)[number % 2]
    writer = Writer(through.uri(VOLUME), log, depth=DEPTH, seed=number)
    writer.wait_acknowledged(WARM_UP, fixture.PATIENCE)
    pid = leader.pid()
    log.mark()
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    writer.wait_acknowledged(DEPTH + 1, fixture.PATIENCE)
    fixture.wait_for(lambda: log.acknowledged_at or writer.error, "a write is acknowledged")
    writer.stop()
    pause = log.acknowledged_at - began
    successor = cluster.leader_other_than(VOLUME, leader)
    started = time.monotonic()
    leader.start()
    cluster.wait_healthy(VOLUME)
    return Kill(leader.service, through.service, successor.service, round(pause * 1e3, 1),
                round(time.monotonic() - started, 2))


def failover(options):
    with contextlib.ExitStack() as ends:
        ends.addCleanup = ends.callback  # what the fixture asks of a test
        cluster = fixture.Cluster(ends)
        cluster.create(VOLUME, SIZE)
        log = TimedLog(SIZE // BLOCK)
        kills = []
        for number in range(options.kills):
            kills.append(kill_leader(cluster, log, number))
            if options.output == "table":
                show(number, kills[-1])
        for server in cluster.servers:
            log.verify(fixture.connect(server, VOLUME))
        return kills, log.count


def show(number, kill):
    print(f"  {number + 1:>3}  kill -9 {kill.killed} (leader), client of {kill.through}, "
          f"{kill.successor} leads: {kill.pause_ms:>7.0f} ms;  healthy {kill.healthy_after_s:.1f} s "
          f"after the start", flush=True)


def say(options, kills, writes):
    pauses = sorted(kill.pause_ms for kill in kills)
    median, worst = round(statistics.median(pauses), 1), pauses[-1]
    p90 = pauses[-(-len(pauses) * 9 // 10) - 1]
    good = median < MEDIAN_LIMIT * 1e3 and worst < WORST_LIMIT * 1e3
    if options.output == "json":
        print(json.dumps({"kills": len(kills), "median_ms": median, "p90_ms": p90, "worst_ms": worst,
                          "good": good, "acknowledged_writes": writes,
                          "each": [asdict(kill) for kill in kills]}, indent=1))
    else:
        print(f"kill -9 of the leader to the next acknowledged write, {len(kills)} times: "
              f"median {median:.0f} ms, p90 {p90:.0f} ms, worst {worst:.0f} ms")
        print(f"{writes} acknowledged writes, all read back through every server, no error")
        if not good:
            print(f"failover: wanted are a median below {MEDIAN_LIMIT:.0f} s and a worst below "
                  f"{WORST_LIMIT:.0f} s", file=sys.stderr)
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(prog="./dev failover", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="how often (default: 50)")
    parser.add_argument("--datom", metavar="PROGRAM", help="default: build/release/datom")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    if options.kills < 1:
        parser.error("--kills is at least 1")
    if options.datom:
        fixture.DATOM = str(Path(options.datom).resolve())

    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        kills, writes = failover(options)
    except AssertionError as failure:
        print(f"failover: FAILED: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return say(options, kills, writes)


if __name__ == "__main__":
    sys.exit(main())
