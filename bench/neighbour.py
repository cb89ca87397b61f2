#!/usr/bin/env python3
"""`./dev bench --neighbour`: what a greedy volume does to a modest one beside it.

Two volumes on the same three servers. The modest one is asked
for 4 KiB at random places, one at a time, so many times a second, half of them writes. The greedy
one is written 4 KiB at random places, 32 at a time, as fast as it goes; then again within a limit
of requests a second. Shown: the modest one's latencies alone, beside the greedy one, and beside the
limited one; in turns, medians of the rounds. Exit status 1 if its p99 beside the limited one is more
than three times that of being alone.
"""

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from bench import parse_size, say, workplace  # noqa: E402
from measure import FILL, JOBS, fio_command  # noqa: E402
from playground import Failure, run, wait_until  # noqa: E402
from systems import REPLICAS, START_SECONDS, Datom  # noqa: E402

GREEDY = next(job for job in JOBS if job.name == "w4k_qd32")
TIMES = 3  # of the p99 alone
CASES = ("alone", "beside the greedy one", "beside the limited one")


class Volume:
    """What fio_command() asks of a system."""

    def __init__(self, name):
        self.name = name
        self.uri = None


class Pair:
    def __init__(self, options, folder):
        self.cluster = Datom("datom", options.program, folder, options.size).cluster
        self.options = options
        self.modest, self.greedy = Volume("modest"), Volume("greedy")

    def start(self):
        self.cluster.up(REPLICAS)
        for volume in (self.modest, self.greedy):
            self.cluster.command("volume", "create", volume.name, "--size", self.options.size,
                                 "--wait", START_SECONDS)
            self.find(volume)
            run(*fio_command(volume, self.options.size, FILL), seconds=600)

    def find(self, volume):
        def leader():
            info = self.cluster.query("volume", "info", volume.name)
            return info["leader"] if info["state"] == "healthy" else None
        service = wait_until(leader, START_SECONDS, f"{volume.name} is healthy")
        volume.uri = self.cluster.server(service).uri(volume.name)
        return service

    def limit(self, iops):
        self.cluster.command("volume", "set", self.greedy.name, "--iops_limit", iops)
        time.sleep(1)  # the leader follows

    def stop(self):
        if self.cluster.exists:
            self.cluster.stop()


@contextlib.contextmanager
def greedy_load(pair):
    command = fio_command(pair.greedy, pair.options.size, GREEDY)
    process = subprocess.Popen([*command, "--time_based", "--runtime=36000"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    try:
        time.sleep(1)
        yield
        if process.poll() is not None:
            raise Failure(f"fio ended: {process.stderr.read().decode()[-500:]}")
    finally:
        process.kill()
        process.wait()


def modest_load(pair):
    """{"p50_us", "p99_us", "worst_ms"} over its reads and writes."""
    size = pair.options.size
    command = ["fio", "--name=modest", "--thread", "--ioengine=nbd", f"--uri={pair.modest.uri}",
               "--rw=randrw", "--bs=4096", "--iodepth=1", f"--size={size}", "--randrepeat=0",
               f"--rate_iops={pair.options.rate // 2},{pair.options.rate // 2}", "--time_based",
               f"--runtime={pair.options.seconds}", "--unified_rw_reporting=1",
               "--output-format=json"]
    text = run(*command, seconds=600)
    found = json.loads(text[text.index("{"):])["jobs"][0]
    if found["error"] != 0:
        raise Failure(f"the modest volume: fio saw error {found['error']}")
    latency = found["mixed"]["clat_ns"]
    return {"p50_us": latency["percentile"]["50.000000"] / 1e3,
            "p99_us": latency["percentile"]["99.000000"] / 1e3, "worst_ms": latency["max"] / 1e6}


def measure(pair, options):
    pair.start()
    say(f"  up and filled; leaders: {pair.find(pair.modest)}, {pair.find(pair.greedy)}")
    found = {case: [] for case in CASES}
    for _ in range(options.rounds):
        found["alone"].append(modest_load(pair))
        pair.limit(0)
        with greedy_load(pair):
            found["beside the greedy one"].append(modest_load(pair))
        pair.limit(options.limit)
        with greedy_load(pair):
            found["beside the limited one"].append(modest_load(pair))
        say("  " + ", ".join(f"{case}: p99 {runs[-1]['p99_us']:.0f} us"
                             for case, runs in found.items()))
    return {case: {key: round(statistics.median(each[key] for each in runs), 1) for key in runs[0]}
            for case, runs in found.items()}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench --neighbour", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=512 << 20, help="of each volume (512M)")
    parser.add_argument("--limit", type=int, default=2000, metavar="N",
                        help="requests a second of the greedy one (2000)")
    parser.add_argument("--rate", type=int, default=200, metavar="N",
                        help="requests a second of the modest one (200)")
    parser.add_argument("--seconds", type=int, default=10, metavar="N", help="of each run (10)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(3)")
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
            pair = Pair(options, folder)
            ends.callback(pair.stop)
            figures = measure(pair, options)
    except Failure as failure:
        say(f"neighbour: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    alone = figures["alone"]["p99_us"]
    times = figures["beside the limited one"]["p99_us"] / alone
    if options.output == "json":
        print(json.dumps(figures, indent=1))
    else:
        print(f"{'the modest volume':<24} {'p50 us':>8} {'p99 us':>8} {'worst ms':>9} {'p99, times':>11}")
        for case, of in figures.items():
            print(f"{case:<24} {of['p50_us']:>8.0f} {of['p99_us']:>8.0f} {of['worst_ms']:>9.1f} "
                  f"{of['p99_us'] / alone:>11.1f}")
    if times > TIMES:
        say(f"neighbour: p99 beside the limited volume is {times:.1f} times that of being alone, "
            f"expected at most {TIMES}")
    return 1 if times > TIMES else 0


if __name__ == "__main__":
    sys.exit(main())
