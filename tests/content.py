"""What tests write and expect to read: every write of a block has content of its own, and a log knows which writes were
acknowledged.

A block's content names the block and the version that was written, over its whole length, so a lost write, an old one that
came back, one at the wrong place and a torn one are all told apart.
"""

import collections
import random
import select
import struct
import threading

import nbd

BLOCK = 4096
_MARK = struct.Struct("<QQ")


def block_content(block, version):
    """Version 0: never written."""
    if version == 0:
        return bytes(BLOCK)
    return _MARK.pack(block, version) * (BLOCK // _MARK.size)


class WriteLog:
    """Which versions of each block are acknowledged and which may or may not be there."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.acknowledged = [0] * blocks
        self.unknown = collections.defaultdict(set)  # newer than what is acknowledged; sent, and not answered
        self.count = 0                               # acknowledged writes

    def begin(self, block):
        """The version to write to the block next."""
        version = 1 + max(self.unknown[block], default=self.acknowledged[block])
        self.unknown[block].add(version)
        return version

    def acknowledge(self, block, version):
        # Whatever was in flight before has taken effect before, or never will.
        self.acknowledged[block] = version
        self.unknown.pop(block, None)
        self.count += 1

    def check(self, block, data):
        """None, or what is wrong with the block."""
        expected = {self.acknowledged[block], *self.unknown.get(block, ())}
        if any(data == block_content(block, version) for version in expected):
            return None
        found_block, found_version = _MARK.unpack_from(data)
        whole = data == block_content(found_block, found_version)
        return (f"block {block}: expected version {sorted(expected)}, found version {found_version} of block "
                f"{found_block}{'' if whole else ', and the rest of the block differs from its beginning'}")

    def verify(self, handle, blocks=None):
        """Reads the blocks (all of them) through `handle` and raises AssertionError for what is not as it should be."""
        wrong = []
        at_once = 256
        blocks = sorted(range(self.blocks) if blocks is None else blocks)
        while blocks:
            first = blocks[0]
            run = [block for block in blocks[:at_once] if block < first + at_once]
            blocks = blocks[len(run):]
            data = handle.pread((run[-1] - first + 1) * BLOCK, first * BLOCK)
            for block in run:
                start = (block - first) * BLOCK
                problem = self.check(block, bytes(data[start:start + BLOCK]))
                if problem:
                    wrong.append(problem)
        if wrong:
            raise AssertionError(f"{len(wrong)} of the blocks are wrong: " + "; ".join(wrong[:10]))


class Writer:
    """Writes random blocks through one NBD connection, `depth` at a time, in a thread of its own, until it is stopped or has
    written enough. No block is written twice at the same time. Any error ends it, and stop() and join() raise it."""

    def __init__(self, uri, log, depth=16, limit=None, seed=1, writable=None):
        self.log = log
        self.error = None
        self._uri = uri
        self._depth = depth
        self._limit = limit
        self._random = random.Random(seed)
        self._writable = writable or range(log.blocks)
        self._stop = threading.Event()
        self._in_flight = {}  # cookie: (block, version, buffer)
        self._busy = set()    # blocks
        self._started = 0
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            handle = nbd.NBD()
            handle.connect_uri(self._uri)
            while self._in_flight or self._wants_more():
                while len(self._in_flight) < self._depth and self._wants_more():
                    self._send_one(handle)
                self._wait(handle)
                self._collect(handle)
            handle.shutdown()
        except Exception as error:  # whatever it is, join() raises it
            self.error = error
        with self._progress:
            self._progress.notify_all()

    def _wants_more(self):
        return not self._stop.is_set() and (self._limit is None or self._started < self._limit)

    def _send_one(self, handle):
        while (block := self._random.choice(self._writable)) in self._busy:
            pass
        version = self.log.begin(block)
        buffer = nbd.Buffer.from_bytearray(bytearray(block_content(block, version)))
        cookie = handle.aio_pwrite(buffer, block * BLOCK)
        self._in_flight[cookie] = (block, version, buffer)
        self._busy.add(block)
        self._started += 1

    # With select, not with nbd's own poll, so that other threads run meanwhile.
    def _wait(self, handle):
        direction = handle.aio_get_direction()
        descriptor = handle.aio_get_fd()
        reads = [descriptor] if direction & nbd.AIO_DIRECTION_READ else []
        writes = [descriptor] if direction & nbd.AIO_DIRECTION_WRITE else []
        readable, writable, _ = select.select(reads, writes, [], 0.2)
        if readable:
            handle.aio_notify_read()
        elif writable:
            handle.aio_notify_write()

    def _collect(self, handle):
        done = [cookie for cookie in self._in_flight if handle.aio_command_completed(cookie)]
        for cookie in done:
            block, version, _ = self._in_flight.pop(cookie)
            self._busy.discard(block)
            self.log.acknowledge(block, version)
        if done:
            with self._progress:
                self._progress.notify_all()
        if not done and (handle.aio_is_dead() or handle.aio_is_closed()):
            raise AssertionError("the server closed the connection")

    def wait_acknowledged(self, more, timeout):
        """Waits until `more` further writes are acknowledged."""
        goal = self.log.count + more
        with self._progress:
            reached = self._progress.wait_for(lambda: self.error or self.log.count >= goal, timeout)
        if self.error:
            raise self.error
        if not reached:
            raise AssertionError(f"{self.log.count - goal + more} of {more} writes acknowledged in {timeout} s")

    def join(self, timeout):
        """Waits until it has written its limit."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise AssertionError(f"{len(self._in_flight)} writes are not answered after {timeout} s")
        if self.error:
            raise self.error

    def stop(self, timeout=90):
        """Sends nothing more and waits for the answers under way."""
        self._stop.set()
        self.join(timeout)

    def abandon(self):
        """For a writer whose server was killed: waits for its end. What was in flight stays unknown in the log."""
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "the writer does not notice that its server is gone"


class PendingRead:
    """A read of a block that was sent and perhaps not answered yet."""

    def __init__(self, handle, block):
        self.block = block
        self._handle = handle
        self._buffer = nbd.Buffer(BLOCK)
        self._cookie = handle.aio_pread(self._buffer, block * BLOCK)
        self._done = False

    def answered(self):
        """Waits a moment for it. Raises nbd.Error for an error."""
        if not self._done:
            self._done = self._handle.aio_command_completed(self._cookie)
        if not self._done:
            self._handle.poll(100)
            self._done = self._handle.aio_command_completed(self._cookie)
        return self._done

    def data(self):
        return bytes(self._buffer.to_bytearray())
