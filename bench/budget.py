"""`./dev bench --budget JOB`: what one I/O costs each process, beyond CPU time.

Runs of the job, one after another: CPU and wake-ups (/proc); where the CPU goes (perf, sampling);
system calls and requests to the device (perf, counting tracepoints); in a second cluster allocations
and copies of 1 KiB and more (counting.cc, preloaded). Everything is per I/O.
"""

import contextlib
import json
import os
import signal
import struct
import subprocess
import tempfile
from pathlib import Path

from measure import CLIENT, Failure, fill, fio, fio_command, measure
from playground import run
from systems import Datom
from where import recording, shares

SYSTEM_CALLS = ["epoll_wait", "epoll_pwait", "epoll_ctl", "poll", "recvfrom", "recvmsg", "read",
                "readv", "sendto", "sendmsg", "write", "writev", "io_uring_enter", "pread64",
                "pwrite64", "preadv2", "pwritev2", "fdatasync", "fsync", "fallocate", "futex",
                "timerfd_settime", "clock_nanosleep", "mmap", "munmap", "madvise"]
EVENTS = {f"syscalls:sys_enter_{call}": call for call in SYSTEM_CALLS}
EVENTS |= {"raw_syscalls:sys_enter": "system calls",
           "io_uring:io_uring_queue_async_work": "to io_uring's threads",
           "block:block_rq_issue": "device requests",
           "page-faults": "page faults", "context-switches": "context switches"}
COUNTED = ["allocations", "bytes allocated", "copies", "bytes copied", "bytes cleared"]
SHOWN_FROM = 0.005  # per I/O


# ---- perf


def known_events():
    listed = run("perf", "list", "--no-desc")
    return [event for event in EVENTS if event in listed or ":" not in event]


class Perf:
    """Counts events of a process until it is told to stop."""

    def __init__(self, folder, role, pid, events):
        self.output = folder / f"perf-{role}"
        self.process = subprocess.Popen(
            ["perf", "stat", "-x", ";", "-o", self.output, "-e", ",".join(events), "-p", str(pid)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def counts(self):
        return counts_of(self.output)


def counts_of(file):
    counts = {}
    for line in file.read_text().splitlines():
        words = line.split(";")
        if len(words) > 2 and words[0].isdigit():
            counts[EVENTS[words[2].removesuffix(":u")]] = int(words[0])
    return counts


def count_events(system, job, options, folder):
    """{role: {what: per I/O}}"""
    events = known_events()
    system.prepare()
    mine = folder / "perf-client"
    with contextlib.ExitStack() as ends:
        counting = {role: Perf(folder, role, pid, events) for role, pid in system.pids.items()}
        for perf in counting.values():
            ends.callback(perf.stop)
        text = run("perf", "stat", "-x", ";", "-o", mine, "-e", ",".join(events), "--",
                   *fio_command(system, options.size, job), "--time_based",
                   f"--runtime={options.seconds}", seconds=3600)
    ios = ios_of(json.loads(text[text.index("{"):])["jobs"][0], job)
    found = {role: perf.counts() for role, perf in counting.items()} | {CLIENT: counts_of(mine)}
    return {role: {what: count / ios for what, count in counts.items()}
            for role, counts in found.items()}


def ios_of(found, job):
    return found["read" if job.reads else "write"]["total_ios"]


# ---- allocations and copies


def counting_program(options, folder):
    """datom with counting.cc preloaded."""
    library = Path(options.program).resolve().parent / "libdatom_counting.so"
    if not library.exists():
        raise Failure(f"there is no {library}: ./dev build datom_counting makes it")
    wrapper = folder / "counted-datom"
    wrapper.write_text(f'#!/bin/sh\nDATOM_COUNTING={folder} LD_PRELOAD={library} exec '
                       f'{Path(options.program).resolve()} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def counters_of(folder, pid):
    data = (folder / str(pid)).read_bytes()
    return struct.unpack(f"{len(COUNTED)}Q", data)


def count_memory(system, job, options, folder):
    system.prepare()
    before = {role: counters_of(folder, pid) for role, pid in system.pids.items() if counted(role)}
    found = fio(system, options.size, job, "--time_based", f"--runtime={options.seconds}")
    ios = ios_of(found, job)
    return {role: {what: (now - then) / ios for what, now, then
                   in zip(COUNTED, counters_of(folder, system.pids[role]), values)}
            for role, values in before.items()}


def counted(role):
    return role != "zookeeper"


# ---- CPU


def sample(system, job, options, folder):
    """{role: {what for: share}}, of the servers."""
    system.prepare()
    servers = {role: pid for role, pid in system.pids.items()
               if role == "leader" or role.startswith("follower")}
    output = folder / "perf.data"
    with recording(servers.values(), output):
        fio(system, options.size, job, "--time_based", f"--runtime={options.seconds}")
    found = shares(output)
    return {role: found.get(pid, {}) for role, pid in servers.items()}


def where_cpu_goes(run_found, sampled):
    """The shares, of what the process used."""
    return {role: {f"  {name}": share * run_found.uses[role].cpu_s * 1e6 / run_found.ios
                   for name, share in sorted(found.items(), key=lambda item: -item[1])}
            for role, found in sampled.items()}


# ---- the whole


def cpu(run_found):
    return {role: {"CPU us": use.cpu_s * 1e6 / run_found.ios,
                   "of it in the kernel": use.system_s * 1e6 / run_found.ios}
            for role, use in run_found.uses.items()}


def wakeups(run_found):
    found = {}
    for role, use in run_found.uses.items():
        found[role] = {"bytes to the device": use.written / run_found.ios}
        if use.wakeups is not None:
            found[role]["wake-ups"] = use.wakeups / run_found.ios
    return found


def merged(parts):
    roles = {}
    for part in parts:
        for role, values in part.items():
            roles.setdefault(role, {}).update(values)
    return roles


def budget(job, options, folder):
    """{role: {what: per I/O}}"""
    with contextlib.ExitStack() as ends:
        plain = Datom("datom", options.program, folder, options.size)
        counting = Datom("counted", counting_program(options, folder), folder, options.size)
        for system in (plain, counting):
            ends.callback(system.stop)
            system.start()
            fill(system, options.size)
        os.sync()
        measured = measure(plain, options.size, job, options.seconds)
        sampled = sample(plain, job, options, folder)
        return measured.iops, merged([cpu(measured), where_cpu_goes(measured, sampled),
                                      wakeups(measured),
                                      count_events(plain, job, options, folder),
                                      count_memory(counting, job, options, folder)])


def text_of(job, iops, roles):
    order = ["leader", "follower1", "follower2", CLIENT, "config", "zookeeper"]
    columns = [role for role in order if role in roles]
    rows = []
    for role in columns:
        rows += [what for what in roles[role] if what not in rows]
    lines = [f"{job.name}, {iops:.0f} IOPS; per I/O:",
             f"{'':<24}" + "".join(f"{role:>12}" for role in columns)]
    for what in rows:
        values = [roles[role].get(what) for role in columns]
        if any(value is not None and value >= SHOWN_FROM for value in values):
            lines.append(f"{what:<24}" + "".join(
                f"{'' if value is None else f'{value:.2f}':>12}" for value in values))
    return "\n".join(lines)
