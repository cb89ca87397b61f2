"""One run of fio against a system, with what the processes used meanwhile (/proc)."""

import contextlib
import json
import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from playground import Failure, run  # noqa: E402

MIB = 1 << 20
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CLIENT = "fio"


@dataclass(frozen=True)
class Job:
    name: str
    pattern: str  # fio's --rw
    block_size: int
    depth: int

    @property
    def reads(self):
        return self.pattern.endswith("read")


JOBS = [
    Job("w4k_qd1", "randwrite", 4096, 1),
    Job("w4k_qd32", "randwrite", 4096, 32),
    Job("w4k_qd128", "randwrite", 4096, 128),
    Job("r4k_qd1", "randread", 4096, 1),
    Job("r4k_qd32", "randread", 4096, 32),
    Job("w1m_qd8", "write", MIB, 8),
    Job("r1m_qd8", "read", MIB, 8),
]
FILL = Job("fill", "write", MIB, 8)


@dataclass
class Use:
    """What a process has used since it began; of a run: what it used meanwhile."""
    user_s: float = 0.0
    system_s: float = 0.0
    written: int = 0  # bytes sent towards a device
    slept: dict = field(default_factory=dict)  # how often by thread, where that can be told

    @property
    def wakeups(self):
        return sum(self.slept.values()) if self.slept else None

    @property
    def cpu_s(self):
        return self.user_s + self.system_s

    def since(self, before):
        slept = {thread: count - before.slept.get(thread, 0)
                 for thread, count in self.slept.items()}
        return Use(self.user_s - before.user_s, self.system_s - before.system_s,
                   self.written - before.written, slept)


def fields_of(path):
    """{name: first number} of a file of lines `name: value`."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        found[name] = value.split()[0] if value.split() else ""
    return found


def sleeps_of(process):
    """How often each of its threads went to sleep; io_uring's come and go meanwhile."""
    slept = {}
    for task in (process / "task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            slept[task.name] = int(fields_of(task / "status")["voluntary_ctxt_switches"])
    return slept


def use_of(pid, lasting_threads):
    process = Path(f"/proc/{pid}")
    try:
        times = (process / "stat").read_text().rpartition(")")[2].split()
        written = int(fields_of(process / "io")["write_bytes"])
        slept = sleeps_of(process) if lasting_threads else {}
    except OSError as error:
        raise Failure(f"process {pid} has ended: {error}") from None
    return Use(int(times[11]) / TICKS_PER_SECOND, int(times[12]) / TICKS_PER_SECOND, written, slept)


def uses_of(system):
    return {role: use_of(pid, system.lasting_threads) for role, pid in system.pids.items()}


@dataclass
class Run:
    """Of all the I/Os of one run. `uses`: by process, the client's too."""
    ios: int
    bytes: int
    iops: float
    mib_s: float
    p50_us: float
    p99_us: float
    p999_us: float
    worst_ms: float
    uses: dict = field(default_factory=dict)

    @property
    def cpu_ms_per_1000(self):
        return sum(self.cpu_by_process.values())

    @property
    def cpu_by_process(self):
        return {role: use.cpu_s * 1e6 / self.ios for role, use in self.uses.items()}

    @property
    def system_cpu_by_process(self):
        return {role: use.system_s * 1e6 / self.ios for role, use in self.uses.items()}

    @property
    def wakeups_by_process(self):
        return {role: use.wakeups / self.ios for role, use in self.uses.items()
                if use.wakeups is not None}

    @property
    def written_per_byte(self):
        return sum(use.written for use in self.uses.values()) / self.bytes


def fio_command(system, size, job):
    """The job is a thread of fio, so that killing fio ends it."""
    return ["fio", "--name=bench", "--thread", "--ioengine=nbd", f"--uri={system.uri}",
            f"--rw={job.pattern}", f"--bs={job.block_size}", f"--iodepth={job.depth}",
            f"--size={size}", "--randrepeat=0", "--output-format=json"]


def fio(system, size, job, *more):
    """What fio found out about its only job."""
    text = run(*fio_command(system, size, job), *more, seconds=3600)
    found = json.loads(text[text.index("{"):])["jobs"][0]
    if found["error"] != 0:
        raise Failure(f"{system.name}, {job.name}: fio saw error {found['error']}")
    return found


def fill(system, size):
    """So that reads find data, and writes find blocks that are there."""
    system.prepare()
    fio(system, size, FILL)


def client_use(found):
    """fio's thread; it reports its times as a share of its run."""
    seconds = found["job_runtime"] / 1e3
    return Use(found["usr_cpu"] / 100 * seconds, found["sys_cpu"] / 100 * seconds, 0,
               {CLIENT: found["ctx"]})


def measure(system, size, job, seconds):
    system.prepare()
    before = uses_of(system)
    found = fio(system, size, job, "--time_based", f"--runtime={seconds}")
    after = uses_of(system)
    side = found["read" if job.reads else "write"]
    if side["total_ios"] == 0:
        raise Failure(f"{system.name}, {job.name}: no I/O within {seconds} s")
    uses = {role: after[role].since(before[role]) for role in after}
    uses[CLIENT] = client_use(found)
    latency = side["clat_ns"]
    percentile = latency["percentile"]
    return Run(side["total_ios"], side["io_bytes"], side["iops"], side["bw_bytes"] / MIB,
               percentile["50.000000"] / 1e3, percentile["99.000000"] / 1e3,
               percentile["99.900000"] / 1e3, latency["max"] / 1e6, uses)


# ---- of several runs


def median_of(runs, what):
    return statistics.median(getattr(each, what) for each in runs)


def medians_by_process(runs, what):
    maps = [getattr(each, what) for each in runs]
    return {role: round(statistics.median(found.get(role, 0.0) for found in maps), 3)
            for role in maps[0]}


@dataclass
class Result:
    """Medians of the runs; worst_ms is that of all of them."""
    system: str
    job: str
    iops: float
    mib_s: float
    p50_us: float
    p99_us: float
    p999_us: float
    worst_ms: float
    cpu_ms_per_1000: float
    cpu_by_process: dict
    system_cpu_by_process: dict  # the part of it in the kernel
    wakeups_by_process: dict     # per I/O
    written_per_byte: float | None
    runs: int
    to_nbdkit_file: dict | None = None  # {"iops": ratio, "cpu": ratio}
    to_qemu_nbd: dict | None = None


def summarise(system, job, runs):
    return Result(system.name, job.name, round(median_of(runs, "iops"), 1),
                  round(median_of(runs, "mib_s"), 1), round(median_of(runs, "p50_us"), 1),
                  round(median_of(runs, "p99_us"), 1), round(median_of(runs, "p999_us"), 1),
                  round(max(each.worst_ms for each in runs), 2),
                  round(median_of(runs, "cpu_ms_per_1000"), 2),
                  medians_by_process(runs, "cpu_by_process"),
                  medians_by_process(runs, "system_cpu_by_process"),
                  medians_by_process(runs, "wakeups_by_process"),
                  None if job.reads else round(median_of(runs, "written_per_byte"), 2), len(runs))


def ratios(result, base):
    return {"iops": round(result.iops / base.iops, 3),
            "cpu": round(result.cpu_ms_per_1000 / base.cpu_ms_per_1000, 3)}


def compare(results):
    """Fills in the ratios to the references of the same job."""
    found = {(each.job, each.system): each for each in results}
    for result in results:
        nbdkit, qemu = found.get((result.job, "nbdkit-file")), found.get((result.job, "qemu-nbd"))
        if nbdkit and result is not nbdkit:
            result.to_nbdkit_file = ratios(result, nbdkit)
        if qemu and result is not qemu:
            result.to_qemu_nbd = ratios(result, qemu)
