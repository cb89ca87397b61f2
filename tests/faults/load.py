#!/usr/bin/env python3
"""Clients of a volume, which write down what they asked for and what they saw.

Connections of libnbd read and write 4 KiB blocks, several at a time each, until SIGTERM (with --once: read every block
once). Each write has content of its own: block and value, over the whole block. What was seen goes to the file
--history, a line each, times in nanoseconds of the monotonic clock; END is `-` for a write whose outcome is unknown:

    w BLOCK VALUE BEGIN END WHO        r BLOCK VALUE BEGIN END WHO

and to HISTORY.events what went wrong: `error TIME WHO WORDS...`, `broken TIME WHO`; and now and then when the oldest
operation under way began, or now if there is none: `oldest TIME BEGIN`. WHO is CONNECTION@SERVER. A connection that
breaks is made anew, to the next of its servers.
"""

import argparse
import itertools
import random
import select
import signal
import struct
import sys
import time

import nbd

BLOCK = 4096
RUBBISH = 2**64 - 1  # stands for content that is no write's as a whole
CONNECT_SECONDS = 5
RETRY_SECONDS = 0.2
FLUSH_SECONDS = 0.05
TELL_SECONDS = 0.2
END_SECONDS = 60
_MARK = struct.Struct("<QQ")


def content(block, value):
    return bytes(BLOCK) if value == 0 else _MARK.pack(block, value) * (BLOCK // _MARK.size)


def value_of(block, data):
    """The value that was written to this block; RUBBISH unless every byte is that write's."""
    value = _MARK.unpack_from(data)[1]
    return value if data == content(block, value) else RUBBISH


class Recorder:
    def __init__(self, path):
        self._history = open(path, "w", buffering=1 << 16)
        self._events = open(f"{path}.events", "w", buffering=1)
        self._flushed = 0.0
        self._told = 0.0

    def operation(self, kind, block, value, begin, end, who):
        self._history.write(f"{kind} {block} {value} {begin} {end} {who}\n")

    def event(self, kind, who, words=""):
        self._events.write(f"{kind} {time.monotonic_ns()} {who} {words}\n")

    def flush(self, now, connections):
        if now - self._flushed > FLUSH_SECONDS:
            self._history.flush()
            self._flushed = now
        if now - self._told > TELL_SECONDS:
            oldest = min((connection.oldest for connection in connections if not connection.idle), default=time.monotonic_ns())
            self.event("oldest", oldest)
            self._told = now

    def close(self):
        self._history.close()
        self._events.close()


class Request:
    def __init__(self, kind, block, value, buffer):
        self.kind = kind
        self.block = block
        self.value = value
        self.buffer = buffer
        self.begin = time.monotonic_ns()


class Connection:
    """`targets`: [(server, uri)]. `plan` yields (kind, block) to ask for; `values` yields values."""

    def __init__(self, name, targets, plan, values, depth, rate, recorder):
        self._name = name
        self._targets = itertools.cycle(targets)
        self._plan = plan
        self._values = values
        self._depth = depth
        self._interval = 1 / rate
        self._recorder = recorder
        self._handle = None
        self._since = 0.0
        self._next = 0.0  # connects, or sends, no sooner
        self._requests = {}  # by cookie
        self._who = ""
        self.exhausted = False

    @property
    def idle(self):
        return not self._requests

    @property
    def oldest(self):
        """When the oldest of its requests under way began; there is one."""
        return min(request.begin for request in self._requests.values())

    def _connect(self, now):
        server, uri = next(self._targets)
        self._who = f"{self._name}@{server}"
        self._since = now
        self._handle = nbd.NBD()
        self._handle.aio_connect_uri(uri)

    def _drop(self, now, was_connected):
        if was_connected:
            self._recorder.event("broken", self._who)
        for request in self._requests.values():
            self._lost(request)
        self._requests.clear()
        self._handle = None
        self._next = now + RETRY_SECONDS

    def _lost(self, request):
        if request.kind == "w":
            self._recorder.operation("w", request.block, request.value, request.begin, "-", self._who)

    def step(self, now, sending):
        try:
            if self._handle is None:
                if now >= self._next and sending:
                    self._connect(now)
                return
            if self._handle.aio_is_connecting():
                if now - self._since > CONNECT_SECONDS:
                    self._drop(now, False)
                return
        except nbd.Error:
            self._drop(now, False)
            return
        self._collect()
        if self._handle.aio_is_dead() or self._handle.aio_is_closed():
            self._drop(now, self._since != now)
            return
        while sending and not self.exhausted and len(self._requests) < self._depth and now >= self._next:
            self._send()
            self._next = max(self._next + self._interval, now - self._interval * self._depth)

    def _send(self):
        kind, block = next(self._plan, (None, None))
        if kind is None:
            self.exhausted = True
            return
        try:
            if kind == "w":
                value = next(self._values)
                buffer = nbd.Buffer.from_bytearray(bytearray(content(block, value)))
                request = Request(kind, block, value, buffer)
                cookie = self._handle.aio_pwrite(buffer, block * BLOCK)
            else:
                buffer = nbd.Buffer(BLOCK)
                request = Request(kind, block, None, buffer)
                cookie = self._handle.aio_pread(buffer, block * BLOCK)
        except nbd.Error:
            # Part of it may be on its way; that the connection is dead is seen in the next step.
            self._lost(request)
            return
        self._requests[cookie] = request

    def _collect(self):
        for cookie, request in list(self._requests.items()):
            try:
                if not self._handle.aio_command_completed(cookie):
                    continue
                self._done(request, time.monotonic_ns())
            except nbd.Error as error:
                if not (self._handle.aio_is_dead() or self._handle.aio_is_closed()):
                    self._recorder.event("error", self._who, f"{error.errno} {error.string}".replace("\n", " "))
                self._lost(request)
            del self._requests[cookie]

    def _done(self, request, end):
        value = request.value
        if request.kind == "r":
            data = bytes(request.buffer.to_bytearray())
            value = value_of(request.block, data)
            if value == RUBBISH:
                found = [_MARK.unpack_from(data, at) for at in range(0, BLOCK, 512)]
                self._recorder.event("error", self._who, f"block {request.block} is torn or misplaced: {found}")
        self._recorder.operation(request.kind, request.block, value, request.begin, end, self._who)

    def interest(self):
        """(descriptor, events) to wait for; None if there is nothing."""
        if self._handle is None:
            return None
        direction = self._handle.aio_get_direction()
        events = select.POLLIN if direction & nbd.AIO_DIRECTION_READ else 0
        events |= select.POLLOUT if direction & nbd.AIO_DIRECTION_WRITE else 0
        try:
            return (self._handle.aio_get_fd(), events) if events else None
        except nbd.Error:
            return None

    def notify(self, events):
        try:
            direction = self._handle.aio_get_direction()
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and direction & nbd.AIO_DIRECTION_READ:
                self._handle.aio_notify_read()
            elif events & (select.POLLOUT | select.POLLHUP | select.POLLERR) and direction & nbd.AIO_DIRECTION_WRITE:
                self._handle.aio_notify_write()
        except nbd.Error:
            pass  # the handle is dead then, which the next step sees

    def end(self):
        for request in self._requests.values():
            self._lost(request)


def forever(rng, kinds, blocks):
    while True:
        yield rng.choice(kinds), rng.randrange(blocks)


def once(blocks):
    return (("r", block) for block in range(blocks))


class Stop:
    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __call__(self, *_):
        self.asked = True


def drive(connections, recorder, stop):
    """Until it is asked to stop, or everything planned is done; then until nothing is under way."""
    deadline = None
    while True:
        now = time.monotonic()
        ending = stop.asked or all(connection.exhausted for connection in connections)
        if ending and deadline is None:
            deadline = now + END_SECONDS
        if ending and (now > deadline or all(connection.idle for connection in connections)):
            break
        for connection in connections:
            connection.step(now, not ending)
        poll = select.poll()
        waiting = {}
        for connection in connections:
            interest = connection.interest()
            if interest:
                poll.register(*interest)
                waiting[interest[0]] = connection
        for descriptor, events in poll.poll(2):
            waiting[descriptor].notify(events)
        recorder.flush(now, connections)
    for connection in connections:
        connection.end()


def parse_connection(text):
    """NAME:KINDS:SERVER=URI[,SERVER=URI...], KINDS of r and w."""
    name, kinds, targets = text.split(":", 2)
    return name, kinds, [tuple(target.split("=", 1)) for target in targets.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", required=True, metavar="FILE")
    parser.add_argument("--blocks", type=int, required=True, help="of the volume, from the first one on")
    parser.add_argument("--depth", type=int, default=4, help="operations at a time on a connection")
    parser.add_argument("--rate", type=float, default=200, help="most operations a second on a connection")
    parser.add_argument("--seed", type=int, default=1, help="values start with it: another one for each run on a volume")
    parser.add_argument("--once", action="store_true", help="each connection reads every block once")
    parser.add_argument("connections", nargs="+", metavar="NAME:KINDS:SERVER=URI[,SERVER=URI...]", type=parse_connection)
    options = parser.parse_args()
    stop = Stop()
    recorder = Recorder(options.history)
    connections = []
    for number, (name, kinds, targets) in enumerate(options.connections):
        rng = random.Random(options.seed * 1000 + number)
        plan = once(options.blocks) if options.once else forever(rng, kinds, options.blocks)
        values = itertools.count((options.seed * 1000 + number << 40) + 1)
        connections.append(Connection(name, targets, plan, values, options.depth, options.rate, recorder))
    drive(connections, recorder, stop)
    recorder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
