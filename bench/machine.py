"""What figures depend on besides datom: the machine, its disk, the day and the commit."""

import datetime
import mmap
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from systems import TOP, run

FLUSHES = 500
BLOCK = 4096


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


def filesystem(folder):
    return run("findmnt", "--noheadings", "--output", "FSTYPE", "--target", folder).strip()


def flush_us(folder):
    """Median of writing 4 KiB onto stable storage, over blocks that are there."""
    path = Path(folder) / "flush"
    block = mmap.mmap(-1, BLOCK)  # aligned, as O_DIRECT wants it
    path.write_bytes(bytes(BLOCK * FLUSHES))
    file = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
    times = []
    try:
        os.fsync(file)
        for number in range(FLUSHES):
            began = time.perf_counter()
            os.pwrite(file, block, number * BLOCK)
            times.append(time.perf_counter() - began)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(times) * 1e6


def commit():
    done = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty", "--exclude", "*"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def facts(options, folder):
    """[(what, text)], for people."""
    return [
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("commit", commit()),
        ("processor", f"{processor()}, {os.cpu_count()} cores"),
        ("memory", f"{memory_gib():.1f} GiB"),
        ("kernel", platform.release()),
        ("filesystem", f"{filesystem(folder)}; 4 KiB with O_DIRECT and O_DSYNC take "
                       f"{flush_us(folder):.0f} us (median)"),
        ("load", f"{os.getloadavg()[0]:.2f} before"),
        ("volume", f"{options.size // (1 << 20)} MiB, all of it written before; 3 replicas"),
        ("runs", f"{options.rounds} rounds of {options.seconds} s a job and system, in turns; "
                 f"medians"),
    ]
