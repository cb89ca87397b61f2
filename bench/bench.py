#!/usr/bin/env python3
"""`./dev bench`: what a volume does for fio, beside nbdkit's file plugin on the same filesystem.

Three volume servers as processes of their own, with ZooKeeper and a config service; fio reads and
writes through the leader's NBD port. nbdkit serves a file in the same folder and answers a write
once it is in the page cache; `nbdkit-fua` is the same with every write synced to disk first, which
is what datom does on a majority. The targets take turns, workload by workload, in the same run.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from cluster import HOST, Cluster  # noqa: E402
from playground import Failure, free_ports, run, wait_until  # noqa: E402

MIB = 1 << 20
VOLUME = "bench"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Workload:
    name: str
    pattern: str  # fio's --rw
    block_size: int
    depth: int

    @property
    def reads(self):
        return self.pattern.endswith("read")


WORKLOADS = [
    Workload("4k-randwrite-qd1", "randwrite", 4096, 1),
    Workload("4k-randwrite-qd32", "randwrite", 4096, 32),
    Workload("4k-randwrite-qd128", "randwrite", 4096, 128),
    Workload("4k-randread-qd1", "randread", 4096, 1),
    Workload("4k-randread-qd32", "randread", 4096, 32),
    Workload("4k-randread-qd128", "randread", 4096, 128),
    Workload("1m-write-qd8", "write", MIB, 8),
    Workload("1m-read-qd8", "read", MIB, 8),
]
FEW = ["4k-randwrite-qd1", "4k-randwrite-qd32", "4k-randread-qd32", "1m-write-qd8", "1m-read-qd8"]


@dataclass
class Result:
    workload: str
    target: str
    iops: float
    mib_per_second: float
    p50_us: float
    p99_us: float
    cpu_ms_per_1000: float  # of all the target's processes
    ratio: float | None = None  # IOPS to those of the first nbdkit


# ---- targets


def cpu_seconds(pids):
    """That these processes have used so far, in user and kernel."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


class Datom:
    name = "datom"

    def __init__(self, datom, folder, size):
        self.cluster = Cluster(datom, folder / "cluster")
        self.size = size
        self.uri = None
        self.pids = []

    def start(self):
        self.cluster.up(3)
        self.cluster.command("volume", "create", VOLUME, "--size", self.size, "--wait", 60)
        self.use_leader()
        self.pids = [self.cluster.service_pid(server.root, server.service)
                     for server in self.cluster.servers]

    def use_leader(self):
        def healthy():
            volume = self.cluster.query("volume", "info", VOLUME)
            return volume if volume["state"] == "healthy" else None
        volume = wait_until(healthy, 60, "the volume is healthy")
        self.uri = self.cluster.server(volume["leader"]).uri(VOLUME)

    def stop(self):
        if self.cluster.exists:
            self.cluster.stop()


class Nbdkit:
    def __init__(self, name, folder, size, filters=()):
        self.name = name
        self.file = folder / f"{name}.img"
        self.size = size
        self.filters = filters
        self.process = None
        self.uri = None
        self.pids = []

    def start(self):
        with open(self.file, "wb") as file:
            file.truncate(self.size)
        port = free_ports(1)
        filters = [f"--filter={name}" for name, _ in self.filters]
        self.process = subprocess.Popen(
            ["nbdkit", "--foreground", "--exit-with-parent", "--ipaddr", HOST, "--port", str(port),
             *filters, "file", str(self.file), *(setting for _, setting in self.filters)],
            stdin=subprocess.DEVNULL)
        self.uri = f"nbd://{HOST}:{port}/"
        self.pids = [self.process.pid]

        def answers():
            if self.process.poll() is not None:
                raise Failure("nbdkit ended at once")
            with contextlib.suppress(Failure):
                return run("nbdinfo", "--size", self.uri, seconds=10)
            return None
        wait_until(answers, 30, "nbdkit answers")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(30)


TARGETS = ["datom", "nbdkit", "nbdkit-fua"]


def make_target(name, options, folder):
    if name == "datom":
        return Datom(options.datom, folder, options.size)
    filters = [("fua", "fuamode=force")] if name == "nbdkit-fua" else []
    return Nbdkit(name, folder, options.size, filters)


# ---- measuring


def fio(target, size, workload, *more):
    """What fio found out about its only job."""
    text = run("fio", "--name=bench", "--ioengine=nbd", f"--uri={target.uri}",
               f"--rw={workload.pattern}", f"--bs={workload.block_size}",
               f"--iodepth={workload.depth}", f"--size={size}",
               "--output-format=json", *more, seconds=3600)
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"] != 0:
        raise Failure(f"{target.name}, {workload.name}: fio saw error {job['error']}")
    return job["read" if workload.reads else "write"]


def fill(target, size):
    """So that reads find data, and writes find blocks that are there."""
    fio(target, size, Workload("fill", "write", MIB, 8))


def measure(target, size, workload, seconds):
    before = cpu_seconds(target.pids)
    found = fio(target, size, workload, "--time_based", f"--runtime={seconds}")
    used = cpu_seconds(target.pids) - before
    if found["total_ios"] == 0:
        raise Failure(f"{target.name}, {workload.name}: no I/O within {seconds} s")
    latency = found["clat_ns"]["percentile"]
    return Result(workload.name, target.name, found["iops"], found["bw_bytes"] / MIB,
                  latency["50.000000"] / 1e3, latency["99.000000"] / 1e3,
                  used * 1e6 / found["total_ios"])


def median(results):
    """The result in the middle by IOPS; of an even number the lower one of the two."""
    return sorted(results, key=lambda result: result.iops)[(len(results) - 1) // 2]


def measure_all(targets, workloads, options):
    results = []
    for workload in workloads:
        rounds = {target.name: [] for target in targets}
        for _ in range(options.rounds):
            for target in targets:
                rounds[target.name].append(
                    measure(target, options.size, workload, options.seconds))
        found = {name: median(results) for name, results in rounds.items()}
        base = next((found[name] for name in found if name.startswith("nbdkit")), None)
        for result in found.values():
            if base and result is not base:
                result.ratio = result.iops / base.iops
            show_progress(result)
            results.append(result)
    return results


# ---- saying it


def show_progress(result):
    print(f"  {result.workload} {result.target}: {result.iops:.0f} IOPS", file=sys.stderr, flush=True)


def filesystem_of(folder):
    return run("findmnt", "--noheadings", "--output", "FSTYPE", "--target", folder).strip()


def circumstances(options, folder):
    commit = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"],
                            capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "filesystem": filesystem_of(folder),
        "volume_mib": options.size // MIB,
        "replicas": 3,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "load_before": round(os.getloadavg()[0], 2),
    }


def table(results):
    lines = [f"{'workload':<20}{'target':<12}{'IOPS':>9}{'MiB/s':>9}{'p50 us':>10}{'p99 us':>11}"
             f"{'CPU ms/1000':>13}{'to nbdkit':>11}"]
    last = None
    for result in results:
        name = result.workload if result.workload != last else ""
        last = result.workload
        ratio = f"{result.ratio:.2f}" if result.ratio is not None else ""
        lines.append(f"{name:<20}{result.target:<12}{result.iops:>9.0f}{result.mib_per_second:>9.1f}"
                     f"{result.p50_us:>10.0f}{result.p99_us:>11.0f}{result.cpu_ms_per_1000:>13.1f}"
                     f"{ratio:>11}")
    return "\n".join(lines)


def say(options, facts, results):
    if options.output == "json":
        print(json.dumps({**facts, "results": [asdict(result) for result in results]}, indent=1))
        return
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    print(table(results))


# ---- the whole


def parse_size(text):
    units = {"M": MIB, "G": 1 << 30}
    try:
        size = int(text[:-1]) * units[text[-1]]
    except (KeyError, ValueError, IndexError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size like 512M or 1G") from None
    if size < 64 * MIB:
        raise argparse.ArgumentTypeError("at least 64M")
    return size


def parse_names(known):
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names
    return parse


def parse_options():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--seconds", type=int, default=10, metavar="N",
                        help="for each workload, target and round (default: 10)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N",
                        help="of which the median is shown (default: 1)")
    parser.add_argument("--size", type=parse_size, default=1 << 30,
                        help="of the volume: 512M, 1G (default: 1G)")
    parser.add_argument("--workloads", type=parse_names(names), default=FEW, metavar="NAME[,NAME]",
                        help=f"of {', '.join(names)} (default: {','.join(FEW)})")
    parser.add_argument("--all", action="store_true", help="every workload")
    parser.add_argument("--targets", type=parse_names(TARGETS), default=TARGETS,
                        metavar="NAME[,NAME]", help="default: datom,nbdkit,nbdkit-fua")
    parser.add_argument("--root", metavar="DIR", default=TOP / "build",
                        help="a folder on the filesystem to measure on (default: build)")
    parser.add_argument("--datom", metavar="PROGRAM", default=TOP / "build/release/datom",
                        help="default: build/release/datom")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds are at least 1")
    return options


def bench(options, folder):
    needed = options.size * 8 + (2 << 30)
    if shutil.disk_usage(folder).free < needed:
        raise Failure(f"{folder} has less than {needed >> 30} GiB free; give another --root")
    workloads = [each for each in WORKLOADS if options.all or each.name in options.workloads]
    facts = circumstances(options, folder)
    targets = [make_target(name, options, folder) for name in options.targets]
    with contextlib.ExitStack() as running:
        for target in targets:
            running.callback(target.stop)
            target.start()
            fill(target, options.size)
        say(options, facts, measure_all(targets, workloads, options))


def main():
    options = parse_options()

    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.root)).resolve()
    try:
        bench(options, folder)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
