"""Clients that run while faults happen, and what they wrote down: see load.py for the lines."""

import pathlib
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from domain import SERVERS, Failure, wait_for

LOAD = pathlib.Path(__file__).parent / "load.py"
NANOSECONDS = 1_000_000_000


@dataclass
class Operation:
    kind: str
    server: str  # that the connection uses
    begin: int
    end: int | None  # None: outcome unknown

    @property
    def wait(self):
        return (self.end - self.begin) / NANOSECONDS


@dataclass
class Event:
    kind: str  # error, broken
    time: int
    connection: str
    server: str
    words: str


class Tail:
    """The whole lines that were added to a file since the last time."""

    def __init__(self, path):
        self._path = path
        self._file = None
        self._rest = ""

    def lines(self):
        if self._file is None:
            if not self._path.exists():
                return []
            self._file = open(self._path)
        text = self._rest + self._file.read()
        whole, _, self._rest = text.rpartition("\n")
        return whole.splitlines()


class Recording:
    """One run of load.py on the client's host."""

    def __init__(self, domain, volume, blocks, connections, seed, *options):
        self.volume = volume
        self.path = domain.folder / f"{volume}-{seed}.history"
        self.operations = []
        self.events = []
        self.oldest = 0  # when the oldest operation under way began, as far as known
        self._history = Tail(self.path)
        self._events = Tail(pathlib.Path(f"{self.path}.events"))
        self._log = domain.folder / f"{volume}-{seed}.log"
        self._process = domain.network["client"].start(
            sys.executable, "-B", LOAD, "--history", self.path, "--blocks", blocks, "--seed", seed, *options, *connections,
            log=self._log)

    def update(self):
        for line in self._history.lines():
            kind, _, _, begin, end, who = line.split()
            self.operations.append(Operation(kind, who.partition("@")[2], int(begin), None if end == "-" else int(end)))
        for line in self._events.lines():
            kind, when, who, *words = line.split(" ", 3)
            if kind == "oldest":
                self.oldest = int(who)
                continue
            connection, _, server = who.partition("@")
            self.events.append(Event(kind, int(when), connection, server, "".join(words).strip()))

    def check(self):
        if self._process.poll() is not None:
            raise Failure(f"the clients of {self.volume} ended: {self._log.read_text()[-2000:]}")

    def stop(self, patience=90):
        self._process.send_signal(signal.SIGTERM)
        self.join(patience)

    def join(self, patience=90):
        try:
            status = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise Failure(f"operations on {self.volume} are not answered after {patience} s") from None
        self.update()
        if status != 0:
            raise Failure(f"the clients of {self.volume} ended with {status}: {self._log.read_text()[-2000:]}")

    def kill(self):
        self._process.kill()
        self._process.wait()

    def answered(self, since):
        """Servers through which an operation was begun and acknowledged since the moment `since`."""
        found = set()
        for operation in reversed(self.operations):
            if operation.end is not None and operation.end < since:
                break  # nearly in the order of their ends
            if operation.end is not None and operation.begin >= since:
                found.add(operation.server)
        return found


class Clients:
    """All the recordings of a run."""

    def __init__(self, recordings):
        self.recordings = recordings

    def update(self):
        for recording in self.recordings:
            recording.check()
            recording.update()

    def wait_answered(self, servers, patience, what):
        """Waits until on each volume operations that begin now are acknowledged through each of the servers."""
        since = time.monotonic_ns()

        def answered():
            self.update()
            return all(set(servers) <= recording.answered(since) for recording in self.recordings)

        def missing():
            return f"{what}: " + ", ".join(f"{recording.volume} through {server}" for recording in self.recordings
                                           for server in sorted(set(servers) - recording.answered(since)))
        wait_for(answered, missing, patience)

    def wait_nothing_older(self, since, patience):
        """Waits until every operation that began before the moment `since` is answered."""
        def answered():
            self.update()
            return all(recording.oldest >= since for recording in self.recordings)
        wait_for(answered, "operations under way are answered", patience)

    def between(self, begin, end):
        """(operations acknowledged, events) in that time."""
        self.update()
        operations = [operation for recording in self.recordings for operation in recording.operations
                      if operation.end is not None and begin <= operation.end <= end]
        events = [event for recording in self.recordings for event in recording.events if begin <= event.time <= end]
        return operations, events


def shared_connections(domain, volume):
    """Two that read and write through each server."""
    return [f"both{number}{server}:rw:{server}={domain.uri(server, volume)}" for server in SERVERS for number in (1, 2)]


def exclusive_connections(domain, volume):
    """One that writes, through the next server where its own dies, and readers through each."""
    targets = ",".join(f"{server}={domain.uri(server, volume)}" for server in SERVERS)
    readers = [f"reader{server}:r:{server}={domain.uri(server, volume)}" for server in SERVERS]
    return [f"writer:rw:{targets}", *readers]
