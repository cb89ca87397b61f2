#!/usr/bin/env python3
"""`./dev faults`: a domain on separate hosts, and everything that happens to hosts.

ZooKeeper, a config service, three volume servers and the clients each have a network namespace of
their own, on one bridge. Clients of libnbd read and write two volumes all the time, one with many
writers and one with a writer and readers, and write down what they saw. Faults happen one after
another, leader and follower being those of the first volume; after each, the domain has to be
healthy again. In the end every block is read through every server, with each of them as leader, and
the histories are checked: every block must have behaved like one register (linearizability; an
operation that was not answered may have taken effect at any time or never).

For each fault: the longest that an operation waited for its answer, among those through servers
that the fault did not touch (marked * where it touched all, or left no majority); the errors that
clients got (none are allowed but those that the fault brings with it: ENOSPC from a full disk);
connections that broke because their server ended; operations acknowledged.

Nothing outside is touched: see hosts.py. Exit status 0: all is well; 1: not; 77: this machine does
not allow namespaces.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

import cluster as fixture  # noqa: E402
import hosts  # noqa: E402
from domain import SERVERS, Domain, Failure, wait_for  # noqa: E402
from recording import NANOSECONDS, Clients, Recording, exclusive_connections, shared_connections  # noqa: E402
from scenarios import FAULTS, SmallDisk  # noqa: E402

FOLDER = "DATOM_FAULTS_FOLDER"
SKIPPED = 77
MEGABYTE = 1 << 20
BLOCKS = 48
VOLUME = "shared"  # the one whose leader and followers the faults mean
SMALL_DISK = 384 * MEGABYTE
RECOVERY_SECONDS = 90
RETENTION = 16 * MEGABYTE


class Play:
    """What a fault can do, and what is noted about it."""

    def __init__(self, domain, clients, full_disk):
        self.domain = domain
        self.network = domain.network
        self.clients = clients
        self.full_disk = full_disk
        self.touched = set()
        self.allowed = set()

    # ---- what it is about

    def leader_of(self, volume):
        return self.domain.leader(volume)

    def leader(self):
        return self.leader_of(VOLUME)

    def followers(self):
        return self.domain.followers(VOLUME)

    @staticmethod
    def others(*names):
        return [name for name in SERVERS if name not in names]

    def host(self, name):
        return self.network[name]

    def hosts(self, names):
        return [self.network[name] for name in names]

    # ---- what it may cost

    def touch(self, *servers):
        """Connections through them may break or wait."""
        self.touched.update(servers)

    def no_majority(self):
        self.touch(*SERVERS)

    def allow(self, error):
        self.allowed.add(error)

    # ---- what it does

    def kill(self, *servers):
        self.touch(*servers)
        for name in servers:
            self.domain.servers[name].kill()

    def stop(self, server):
        self.touch(server)
        self.domain.servers[server].stop()

    def start(self, *servers):
        for name in servers:
            self.domain.servers[name].start()
        for name in servers:
            self.domain.servers[name].wait_up()

    def start_zookeeper(self):
        self.domain.zookeeper.start()
        self.domain.zookeeper.wait_up()

    def lead(self, server):
        self.touch(*SERVERS)  # each leader that is not `server` is stopped
        self.domain.make_leader(VOLUME, server)

    def lead_elsewhere(self, server):
        if self.leader() == server:
            self.lead(self.others(server)[0])

    # ---- what it waits for

    def io_goes_on(self, seconds=0.5):
        """Operations are acknowledged through every server that is not touched, and for so long."""
        time.sleep(seconds)
        self.clients.wait_answered(set(SERVERS) - self.touched, 30, "I/O does not go on")

    def healthy(self):
        for recording in self.clients.recordings:
            volume = recording.volume
            wait_for(lambda name=volume: self.domain.is_healthy(name),
                     lambda name=volume: f"{name} is healthy: {self.domain.describe(name)}", RECOVERY_SECONDS)

    def wait_error(self, errno):
        since = time.monotonic_ns()

        def seen():
            _, events = self.clients.between(since, time.monotonic_ns())
            return any(event.words.startswith(errno) for event in events)
        wait_for(seen, f"a client gets {errno}")


@dataclass
class Outcome:
    name: str
    seconds: float
    waited: float     # longest, for an acknowledgement
    everybody: bool   # of all operations rather than those through servers that were not touched
    errors: int
    unexpected: list
    broken: int
    operations: int


def run_fault(fault, play):
    begin = time.monotonic_ns()
    fault.happen(play)
    over = time.monotonic_ns()
    play.healthy()
    play.clients.wait_answered(SERVERS, RECOVERY_SECONDS, "after the fault I/O does not go on")
    play.clients.wait_nothing_older(over, RECOVERY_SECONDS)
    play.domain.check()
    return outcome(fault, play, begin, over)


def outcome(fault, play, begin, over):
    operations, events = play.clients.between(begin, time.monotonic_ns())
    spared = [operation for operation in operations if operation.server not in play.touched]
    errors = [event for event in events if event.kind == "error"]
    broken = [event for event in events if event.kind == "broken"]
    unexpected = [event for event in errors if event.words.split(" ")[0] not in play.allowed]
    unexpected += [event for event in broken if event.server not in play.touched]
    return Outcome(fault.name, (over - begin) / NANOSECONDS, max((each.wait for each in spared or operations), default=0.0),
                   not spared, len(errors), unexpected, len(broken), len(operations))


# ---- the table


HEADING = f"{'fault':<50}{'lasted':>9}{'longest wait':>15}{'errors':>8}{'broken':>8}{'operations':>12}"


def show(result):
    mark = "*" if result.everybody else " "
    print(f"{result.name:<50}{result.seconds:>7.1f} s{result.waited:>12.2f} s{mark}{result.errors:>7}{result.broken:>8}"
          f"{result.operations:>12}", flush=True)
    for event in result.unexpected[:5]:
        print(f"    not allowed: {event.connection} of {event.server}: {event.kind} {event.words}", flush=True)


# ---- the whole


def verify(domain, seed):
    """Every block through every server, with each of them as leader."""
    recordings = []
    for volume, connections in (("shared", shared_connections), ("exclusive", exclusive_connections)):
        for number, server in enumerate(SERVERS):
            domain.make_leader(volume, server)
            recording = Recording(domain, volume, BLOCKS, connections(domain, volume), seed + number, "--once")
            recording.join()
            recordings.append(recording)
    if wrong := [event for recording in recordings for event in recording.events]:
        raise Failure(f"reading everything at the end: {wrong[:5]}")
    return recordings


def check_histories(program, recordings):
    """What the checker says of each volume's whole history."""
    for volume in sorted({recording.volume for recording in recordings}):
        lines = "".join(recording.path.read_text() for recording in recordings if recording.volume == volume)
        done = subprocess.run([program], input=lines, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(f"the history of {volume} is not linearizable: {done.stdout}{done.stderr}")
        print(f"{volume}: {done.stdout.strip()}", flush=True)


def make_domain(options, folder, ends):
    small = folder / SERVERS[-1]
    small.mkdir()
    hosts.command("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", small)
    domain = Domain(options.datom, folder)
    ends.callback(lambda: [process.kill() for process in domain.processes if process.is_running])
    domain.up()
    domain.run("property", "set", "journal.retention_bytes", RETENTION, "--root", domain.root("cfg"))
    domain.create("shared", MEGABYTE, "shared")
    for volume, size in (("exclusive", MEGABYTE), ("fio", 16 * MEGABYTE), ("qemu", 8 * MEGABYTE)):
        domain.create(volume, size, "exclusive")
    return domain, SmallDisk(SERVERS[-1], small)


def play_all(options, folder):
    began = time.monotonic()
    with contextlib.ExitStack() as ends:
        domain, disk = make_domain(options, folder, ends)
        recordings = [Recording(domain, "shared", BLOCKS, shared_connections(domain, "shared"), 1),
                      Recording(domain, "exclusive", BLOCKS, exclusive_connections(domain, "exclusive"), 1)]
        for recording in recordings:
            ends.callback(recording.kill)
        clients = Clients(recordings)
        clients.wait_answered(SERVERS, 60, "I/O begins")
        print(f"three volume servers, up after {time.monotonic() - began:.1f} s\n\n{HEADING}", flush=True)
        results = []
        for fault in options.faults * options.rounds:
            results.append(run_fault(fault, Play(domain, clients, disk)))
            show(results[-1])
        for recording in recordings:
            recording.stop()
        print(flush=True)
        check_histories(options.check_history, [*recordings, *verify(domain, 2)])
        domain.check()
    print(f"every block read through every server, with each as leader; {len(results)} faults in "
          f"{time.monotonic() - began:.0f} s", flush=True)
    if any(result.unexpected for result in results):
        raise Failure("clients saw errors that they must not see")


def parse_options():
    parser = argparse.ArgumentParser(prog="./dev faults", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few of the faults, in about a minute")
    parser.add_argument("--only", metavar="WORDS", help="those whose name contains these words")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="all of it so often (default: 1)")
    parser.add_argument("--list", action="store_true", help="show the names, do nothing")
    parser.add_argument("--keep", metavar="DIR", help="copy logs and histories there in the end")
    parser.add_argument("--datom", metavar="PROGRAM", default=TOP / "build/release/datom",
                        help="default: build/release/datom")
    parser.add_argument("--check-history", metavar="PROGRAM", default=TOP / "build/release/datom_check_history",
                        help="default: build/release/datom_check_history")
    options = parser.parse_args()
    options.datom = pathlib.Path(options.datom).resolve()
    options.check_history = pathlib.Path(options.check_history).resolve()
    options.faults = [fault for fault in FAULTS if (fault.short or not options.short)
                      and (options.only or "") in fault.name]
    if not options.faults:
        parser.error(f"no fault is called {options.only}")
    for program in (options.datom, options.check_history):
        if not os.access(program, os.X_OK):
            parser.error(f"there is no program {program}: ./dev build makes it")
    return options


def outside():
    """Runs this program again, isolated, in a folder that goes whatever happens."""
    try:
        hosts.check_available()
    except hosts.Unavailable as reason:
        print(f"faults: SKIPPED: no network namespaces can be made here: {reason}", file=sys.stderr)
        return SKIPPED
    with contextlib.ExitStack() as ends:
        ends.addCleanup = ends.callback  # what the fixture asks of a test
        folder = fixture.temporary_folder(ends)
        return hosts.isolate({FOLDER: str(folder)})


def inside(options):
    folder = pathlib.Path(os.environ[FOLDER])
    try:
        play_all(options, folder)
    except (Failure, AssertionError, hosts.Unavailable) as failure:
        print(f"\nfaults: FAILED: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if options.keep:
            shutil.copytree(folder, options.keep, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("replicas", "zookeeper", "ballast", "*.sock"))
    return 0


def main():
    options = parse_options()
    if options.list:
        print("\n".join(f"{'short  ' if fault.short else '       '}{fault.name}" for fault in options.faults))
        return 0
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return inside(options) if hosts.is_isolated() else outside()


if __name__ == "__main__":
    sys.exit(main())
