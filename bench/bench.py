#!/usr/bin/env python3
"""`./dev bench`: what a volume does for fio, beside nbdkit's file plugin and qemu-nbd.

datom is three volume servers, a config service and ZooKeeper, a process each; fio asks the leader's
server. nbdkit serves a file in the same folder and answers a write once it is in the page cache;
qemu-nbd (cache=none) once it is on the device. The systems take turns, job by job, round by round.
CPU is that of all of a system's processes and of fio, in ms per 1000 I/Os; `written` is what they
sent to the device per byte that fio wrote; `worst` is the longest that one I/O took in all rounds.
`./dev bench --micro` is something else: the microbenchmarks, with Google Benchmark's options. So are
`--many`, `--sync` and `--neighbour`: many volumes, a follower that was away, a volume beside another.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import limit
from budget import budget, text_of
from machine import facts
from measure import JOBS, MIB, compare, fill, measure, summarise
from report import by_process, page, table
from systems import OTHER_DATOM, SYSTEMS, TOP, Failure, make_system

SPACE_PER_SIZE = {"datom": 8, OTHER_DATOM: 8}  # replicas, their journals


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- measuring


def measure_round(systems, job, options, runs):
    """Adds a run of every system to `runs`: {system: runs}."""
    for system in systems:
        found = measure(system, options.size, job, options.seconds)
        runs.setdefault(system.name, []).append(found)
        os.sync()  # what one left to be written is not the next one's trouble
        say(f"  {job.name:<10} {system.name:<12} {found.iops:>8.0f} IOPS  p50 {found.p50_us:.0f} us  "
            f"CPU {found.cpu_ms_per_1000:.1f} ms per 1000")


def measure_job(systems, job, options):
    runs = {}
    for _ in range(options.rounds):
        measure_round(systems, job, options, runs)
    return [summarise(system, job, runs[system.name]) for system in systems]


def measure_all(systems, options):
    results = []
    for job in JOBS:
        if job.name in options.job:
            results += measure_job(systems, job, options)
    compare(results)
    return results


def measure_short(systems, options):
    """The results, and the ratio of datom's CPU to nbdkit's. What looks bad is given twice the
    rounds: others use this machine too."""
    job = next(job for job in JOBS if job.name == limit.JOB)
    runs = {}
    for _ in range(options.rounds):
        measure_round(systems, job, options, runs)
    if not options.record_limit and limit.ratio_of(runs) > limit.recorded() * limit.TOLERANCE:
        for _ in range(options.rounds):
            measure_round(systems, job, options, runs)
    results = [summarise(system, job, runs[system.name]) for system in systems]
    compare(results)
    return results, limit.ratio_of(runs)


# ---- processes and files


def processes_of(folder):
    """Ids of those that were started with a path in the folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.fsencode(f"{folder}/") in (entry / "cmdline").read_bytes():
                    yield int(entry.name)


def kill_left_over(folder):
    """Services that were just being started when we were interrupted."""
    deadline = time.monotonic() + 10
    while (left := list(processes_of(folder))) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


@contextlib.contextmanager
def workplace(options):
    """A folder of its own, with no process and, without --keep, nothing left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.root)).resolve()
    try:
        yield folder
    finally:
        hold_signals()
        kill_left_over(folder)
        if options.keep:
            say(f"bench: kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def hold_signals():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def running(options, folder):
    """The systems, each with its disk filled."""
    needed = options.size * sum(SPACE_PER_SIZE.get(name, 1) for name in options.systems) + (1 << 30)
    if shutil.disk_usage(folder).free < needed:
        raise Failure(f"{folder} has less than {needed >> 30} GiB free; give another --root")
    systems = [make_system(name, options, folder) for name in options.systems]
    with contextlib.ExitStack() as ends:
        for system in systems:
            ends.callback(system.stop)
            ends.callback(hold_signals)
            system.start()
            fill(system, options.size)
            say(f"  {system.name}: up and filled")
        os.sync()
        yield systems


# ---- the whole


def parse_size(text):
    units = {"M": MIB, "G": 1 << 30}
    try:
        size = int(text[:-1]) * units[text[-1]]
    except (KeyError, ValueError, IndexError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size like 512M or 2G") from None
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


LONG = {"size": 2 << 30, "seconds": 10, "rounds": 3}
SHORT = {"size": 128 * MIB, "seconds": 2, "rounds": 4}


def parse_options():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = [job.name for job in JOBS]
    parser.add_argument("--job", "--jobs-only", type=parse_names(jobs), default=jobs,
                        metavar="NAME[,NAME]", help=f"of {', '.join(jobs)} (default: all)")
    parser.add_argument("--systems", type=parse_names(SYSTEMS), default=SYSTEMS,
                        metavar="NAME[,NAME]", help=f"default: {','.join(SYSTEMS)}")
    parser.add_argument("--seconds", type=int, metavar="N", help="of each run (default: 10)")
    parser.add_argument("--rounds", type=int, metavar="N",
                        help="of which the medians are shown (default: 3)")
    parser.add_argument("--size", type=parse_size, metavar="SIZE",
                        help="of the volume: 512M, 2G (default: 2G)")
    parser.add_argument("--root", metavar="DIR", default=TOP / "build",
                        help="a folder on the filesystem to measure on (default: build)")
    parser.add_argument("--program", metavar="PATH", default=TOP / "build/release/datom",
                        help="the datom to measure (default: build/release/datom)")
    parser.add_argument("--against", metavar="PATH",
                        help=f"another datom, as system {OTHER_DATOM} in the same rounds")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with data and logs")
    parser.add_argument("--record", action="store_true",
                        help="write the results to docs/benchmarks.md, with machine and commit")
    parser.add_argument("--short", action="store_true",
                        help=f"half a minute: {limit.JOB} only, of datom and {limit.REFERENCE}; exit "
                             f"status 1 if the CPU of a write, as a multiple of nbdkit's, is more than "
                             f"{limit.TOLERANCE} times what bench/limits.json says")
    parser.add_argument("--record-limit", action="store_true",
                        help="the short form, whose ratio then is the one in bench/limits.json")
    parser.add_argument("--budget", action="store_true",
                        help="what an I/O costs each of datom's processes: system calls, wake-ups, "
                             "allocations, copies (needs perf, and root or perf_event_paranoid -1)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    options.short = options.short or options.record_limit
    if options.short:
        options.job, options.systems = [limit.JOB], ["datom", limit.REFERENCE]
    for name, value in (SHORT if options.short else LONG).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds are at least 1")
    if options.against:
        options.systems = [*options.systems, OTHER_DATOM]
    return options


def show(options, results):
    if options.output == "json":
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        print(f"\n{table(results)}\n\nCPU ms per 1000 I/Os by process:\n{by_process(results)}")


def show_budgets(options):
    with workplace(options) as folder:
        for job in JOBS:
            if job.name in options.job:
                place = folder / job.name
                place.mkdir()
                found = budget(job, options, place)
                kill_left_over(place)
                print(f"\n{text_of(job, *found)}", flush=True)
                if not options.keep:
                    shutil.rmtree(place)


def bench(options):
    """The exit status."""
    if options.budget:
        show_budgets(options)
        return 0
    if options.short and not options.record_limit:
        limit.recorded()  # complains before half a minute has gone by
    with workplace(options) as folder:
        circumstances = facts(options, folder)
        with running(options, folder) as systems:
            if options.short:
                results, ratio = measure_short(systems, options)
            else:
                results = measure_all(systems, options)
    show(options, results)
    if options.record:
        (TOP / "docs/benchmarks.md").write_text(page(circumstances, results))
    if options.record_limit:
        limit.record(ratio, circumstances)
    if options.short:
        good, text = limit.verdict(ratio, limit.recorded())
        say(f"bench: {text}")
        return 0 if good else 1
    return 0


def main():
    options = parse_options()

    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        return bench(options)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
