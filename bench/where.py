"""Where a process's CPU time goes: perf's samples, each put under what it worked for."""

import contextlib
import re
import signal
import subprocess
from collections import Counter

from playground import run

SAMPLES_PER_SECOND = 1999

# Of the innermost function: what everybody uses.
TOOLS = [
    ("malloc, free", r"_?_?(int_)?(malloc|free|calloc|realloc|memalign|cfree|aligned_alloc)|malloc_|"
                     r"unlink_chunk|operator (new|delete)|_mid_memalign|posix_memalign"),
    ("copying", r"__mem(move|cpy|set)"),
    ("checksums", r"XXH"),
]
# Of the functions from the inside out: the first that matches.
WORK = [
    ("protobuf", r"google::protobuf|datom::protocol::(wire::|ClientIo)"),
    ("kernel: files", r"(__x64_sys|__do_sys)_io_uring_enter|io_submit_sqes|io_wq_|blk_|ext4_|iomap_|"
                      r"virtqueue_|bio_"),
    ("kernel: sending", r"__sys_send"),
    ("kernel: receiving", r"__sys_recv"),
    ("kernel: epoll", r"\w*epoll_(wait|ctl|pwait)"),
    ("kernel: other", r"entry_SYSCALL|do_syscall_64|asm_|irq|\w*softirq|ret_from_fork"),
    ("nbd", r"datom::nbd::"),
    ("volume client", r"datom::volume::(AttachedClient|VolumeClient)|datom::service::"),
    ("replica", r"datom::volume::"),
    ("group protocol", r"datom::replication::"),
    ("entries", r"datom::protocol::"),
    ("journal", r"datom::journal::"),
    ("block store", r"datom::block_store::"),
    ("rpc", r"datom::rpc::"),
    ("loop, sockets, files", r"datom::runtime::|boost::asio"),
]


def compiled(rules):
    return [(name, re.compile(f"(?:{pattern})")) for name, pattern in rules]


TOOLS, WORK = compiled(TOOLS), compiled(WORK)


def what_for(frames):
    """`frames`: names of functions, the innermost first."""
    for name, pattern in TOOLS:
        if frames and pattern.match(frames[0]):
            return name
    for frame in frames:
        for name, pattern in WORK:
            if pattern.match(frame):
                return name
    return "else"


def samples_of(text):
    """(process id, [function]) of each sample that `perf script -F pid,ip,sym` printed."""
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if lines:
            yield int(lines[0]), [line.split(maxsplit=1)[1] for line in lines[1:]
                                  if len(line.split(maxsplit=1)) == 2]


@contextlib.contextmanager
def recording(pids, output):
    process = subprocess.Popen(
        ["perf", "record", "-q", "-F", str(SAMPLES_PER_SECOND), "-e", "cpu-clock", "-g", "-o", output,
         "-p", ",".join(map(str, pids))], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def shares(output):
    """{process id: {what for: share of its samples}}"""
    counts = {}
    text = run("perf", "script", "-i", output, "-F", "pid,ip,sym")
    for pid, frames in samples_of(text):
        counts.setdefault(pid, Counter())[what_for(frames)] += 1
    return {pid: {name: count / sum(found.values()) for name, count in found.items()}
            for pid, found in counts.items()}
