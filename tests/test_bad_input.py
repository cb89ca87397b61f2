"""Rubbish on every port: each a clear error, and the services stay up and serve."""

import contextlib
import ctypes
import http.client
import json
import random
import socket
import struct
import unittest

import nbd

from cluster import HOST, MEGABYTE, PATIENCE, Cluster, TestCase, connect, run, wait_for
from content import BLOCK, Writer, WriteLog

SIZE = 16 * MEGABYTE


# ---- datom's RPC, as far as it takes to misuse it

_xxhash = ctypes.CDLL("libxxhash.so.0")
_xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
_xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
HELLO, HELLO_REPLY, REQUEST, ERROR = 1, 2, 3, 5
FRAME_HEADER = struct.Struct("<4sHBBHHIIIQQ")


def xxh3(data, seed=0):
    return _xxhash.XXH3_64bits_withSeed(data, len(data), seed)


def frame(kind, header=b"", payload=b"", method=0, request=0, lengths=None):
    """A frame that is right but, if given, for its lengths."""
    header_length, payload_length = lengths or (len(header), len(payload))
    start = FRAME_HEADER.pack(b"\xda\x64\x74\x6d", 1, kind, 0, method, 0, header_length, payload_length, 0, request,
                              xxh3(payload, xxh3(header)))
    return start + struct.pack("<Q", xxh3(start)) + header + payload


def hello(domain="default", meant="", version=1):
    names = b"".join(struct.pack("<H", len(name)) + name.encode() for name in (domain, "tester", meant))
    return frame(HELLO, struct.pack("<HI", version, 0) + names)


def read_frame(stream):
    """(kind, header); None at the end of the stream."""
    start = read_exactly(stream, 48)
    if len(start) < 48:
        return None
    _, _, kind, _, _, _, header_length, payload_length, _, _, _ = FRAME_HEADER.unpack(start[:40])
    header = read_exactly(stream, header_length)
    read_exactly(stream, payload_length)
    return kind, header


def read_exactly(stream, size):
    """Less at the end of the stream."""
    data = b""
    while len(data) < size:
        try:
            part = stream.recv(size - len(data))
        except ConnectionResetError:
            break
        if not part:
            break
        data += part
    return data


def read_to_end(stream):
    data = b""
    while part := read_exactly(stream, 1):
        data += part
    return data


def send(stream, data, last=False):
    """`last`: nothing follows. The other side may hang up in the middle of it."""
    with contextlib.suppress(OSError):
        stream.sendall(data)
        if last:
            stream.shutdown(socket.SHUT_WR)


class BadInput(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls)
        cls.cluster.create("db", SIZE)

    def setUp(self):
        super().setUp()
        self.nodes = [self.cluster.config, *self.cluster.servers]
        self.pids = [node.pid() for node in self.nodes]
        self.vs1 = self.cluster.servers[0]
        self.addCleanup(self.check_services)

    def check_services(self):
        """The same processes answer, and the volume can be written and read."""
        self.assertEqual([node.pid() for node in self.nodes], self.pids)
        for node in self.nodes:
            self.assertEqual(self.get(node, "/healthz"), (200, "ok\n"))
        self.cluster.wait_healthy("db")
        log = WriteLog(64)
        writer = Writer(self.vs1.uri("db"), log, limit=200)
        writer.join(PATIENCE)
        log.verify(connect(self.vs1, "db"), [block for block in range(64) if log.acknowledged[block]])

    def get(self, node, path, method="GET", body=None, headers=None):
        connection = http.client.HTTPConnection(HOST, node.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")

    def stream(self, port):
        stream = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.addCleanup(stream.close)
        return stream

    def wait_log(self, node, text):
        wait_for(lambda: text in node.log(), lambda: f"{node.service} logs '{text}': {node.log()[-4000:]}")

    # ---- RPC

    def test_garbage_on_the_rpc_port(self):
        random_bytes = random.Random(7)
        for node in self.nodes:
            for size in (1, 3, 4, 47, 5000, 300_000):
                stream = self.stream(node.port)
                send(stream, b"\xffx" + random_bytes.randbytes(size), last=True)
                self.assertEqual(read_to_end(stream), b"")
            self.wait_log(node, "neither a datom frame nor an HTTP request")
            # No word at all.
            self.stream(node.port).close()

    def expect_refusal(self, data, text):
        for node in self.nodes:
            stream = self.stream(node.port)
            send(stream, data)
            kind, header = read_frame(stream)
            self.assertEqual(kind, ERROR)
            self.assertIn(text, header[2:].decode())
            self.assertIsNone(read_frame(stream))

    def test_frames_that_are_not_right_are_refused_with_a_reason(self):
        right = hello()
        self.expect_refusal(right[:47] + bytes([right[47] ^ 1]) + right[48:], "frame header fails its checksum")
        self.expect_refusal(right[:-1] + b"?", "fails its checksum")
        self.expect_refusal(frame(REQUEST), "expected a hello")
        self.expect_refusal(frame(77), "frame of unknown kind 77")
        self.expect_refusal(frame(HELLO, b"\1\0"), "hello ends early")

    def test_a_hello_of_another_domain_version_or_service_is_refused(self):
        self.expect_refusal(hello(domain="other"), 'belongs to domain "other", but')
        self.expect_refusal(hello(version=9), "speaks protocol version 9")
        self.expect_refusal(hello(meant="vs77"), 'meant for service "vs77", but this is service')

    def test_oversized_frames(self):
        # Before the hello nearly nothing is allowed, and no memory is taken for what is announced.
        self.expect_refusal(frame(HELLO, lengths=(1 << 30, 0)), "frame with a header of 1073741824 bytes, at most 4096")
        self.expect_refusal(frame(HELLO, lengths=(10, 0xffffffff)), "frame with a payload of 4294967295 bytes, at most 0")
        for node in self.nodes:
            stream = self.stream(node.port)
            send(stream, hello())
            self.assertEqual(read_frame(stream)[0], HELLO_REPLY)
            send(stream, frame(REQUEST, lengths=(0, 0xffffffff), method=1, request=1))
            self.assertIsNone(read_frame(stream))
            self.wait_log(node, "frame with a payload of 4294967295 bytes, at most 4194304 are allowed here")

    def test_requests_of_random_content(self):
        random_bytes = random.Random(5)
        for node in self.nodes:
            stream = self.stream(node.port)
            send(stream, hello())
            self.assertEqual(read_frame(stream)[0], HELLO_REPLY)
            methods = range(64)
            for method in methods:
                send(stream, frame(REQUEST, b"\xff" + random_bytes.randbytes(100), random_bytes.randbytes(9000), method, method + 1))
            for _ in methods:
                kind, header = read_frame(stream)
                self.assertEqual(kind, ERROR)
                self.assertGreater(len(header), 10)

    # ---- HTTP

    def test_http(self):
        config = self.cluster.config
        self.assertEqual(self.get(config, "/api/v1/nothing")[0], 404)
        self.assertEqual(self.get(self.vs1, "/api/v1/volumes")[0], 404)
        status, body = self.get(config, "/api/v1/volumes/none")
        self.assertEqual((status, json.loads(body)["error"]["code"]), (404, "not_found"))
        self.assertEqual(self.get(config, "/api/v1/status", "DELETE")[0], 405)
        as_json = {"Content-Type": "application/json"}
        for wrong in ("", "{", "[]", "null", '{"name": "x"}', '{"name": "x", "size": -1}', '{"name": "x", "size": 1e99}',
                      '{"name": "../x", "size": 1048576}', '{"name": "x", "size": 1048576, "surprise": 1}', "[" * 100_000):
            status, body = self.get(config, "/api/v1/volumes", "POST", wrong, as_json)
            self.assertEqual(status, 400, wrong[:100])
            self.assertIn("message", body)
        self.assertEqual(self.get(config, "/api/v1/volumes", "POST", "x" * (2 * MEGABYTE), as_json)[0], 413)
        for node in self.nodes:
            for request, text in ((b"GET nowhere\r\n\r\n", "malformed request"),
                                  (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", "the header is longer than"),
                                  (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n", "the body is longer than"),
                                  (b"GET / HTTP/1.1\r\n\xff\xfe\0\r\n\r\n", "malformed request")):
                stream = self.stream(node.port)
                send(stream, request)
                self.assertIn(text, read_to_end(stream).decode())

    # ---- NBD

    def nbd_greeting(self, flags=3):
        stream = self.stream(self.vs1.nbd_port)
        self.assertEqual(read_exactly(stream, 18)[:16], b"NBDMAGICIHAVEOPT")
        send(stream, struct.pack(">I", flags))
        return stream

    def test_garbage_on_the_nbd_port(self):
        random_bytes = random.Random(9)
        for size in (1, 4, 100, 300_000):
            stream = self.stream(self.vs1.nbd_port)
            read_exactly(stream, 18)
            send(stream, b"\xff" + random_bytes.randbytes(size), last=True)
            self.assertEqual(read_to_end(stream), b"")
        self.wait_log(self.vs1, "the client sets unknown flags")
        stream = self.nbd_greeting()
        send(stream, b"IHAVENOT" + bytes(8))
        self.assertEqual(read_to_end(stream), b"")
        self.wait_log(self.vs1, "nbd.protocol_violation")

    def test_oversized_options(self):
        stream = self.nbd_greeting()
        send(stream, b"IHAVEOPT" + struct.pack(">II", 7, 0xffffffff))
        self.assertEqual(read_to_end(stream), b"")
        self.wait_log(self.vs1, "option 7 brings 4294967295 bytes")
        # One that can still be read is answered.
        stream = self.nbd_greeting()
        send(stream, b"IHAVEOPT" + struct.pack(">II", 7, 100_000) + bytes(100_000))
        magic, option, reply, length = struct.unpack(">QIII", read_exactly(stream, 20))
        self.assertEqual((magic, option, reply), (0x3e889045565a9, 7, 0x80000009))
        self.assertIn(b"at most 65536 bytes", read_exactly(stream, length))

    def test_garbage_after_the_handshake(self):
        stream = self.nbd_greeting()
        send(stream, b"IHAVEOPT" + struct.pack(">II", 1, 2) + b"db")
        self.assertEqual(struct.unpack(">QH", read_exactly(stream, 10))[0], SIZE)
        send(stream, random.Random(3).randbytes(28))
        self.assertEqual(read_to_end(stream), b"")

    def test_requests_that_are_too_large_or_outside(self):
        handle = connect(self.vs1, "db")
        handle.set_strict_mode(0)

        def expect(errno, action, *arguments):
            with self.assertRaises(nbd.Error) as caught:
                action(*arguments)
            self.assertEqual(caught.exception.errno, errno)

        expect("EINVAL", handle.pread, 33 * MEGABYTE, 0)
        expect("EINVAL", handle.pwrite, bytes(33 * MEGABYTE), 0)
        expect("EINVAL", handle.pread, BLOCK, SIZE)
        expect("EINVAL", handle.pread, BLOCK, (1 << 63) - 1)
        expect("ENOSPC", handle.pwrite, bytes(BLOCK), SIZE - 1)
        expect("ENOSPC", handle.zero, BLOCK, SIZE)
        expect("EINVAL", handle.trim, 0xffffffff, 0)
        self.assertEqual(len(handle.pread(BLOCK, SIZE - BLOCK)), BLOCK)

    def test_unknown_exports(self):
        go = 7
        for name, text in ((b"nothing", b"nothing"), (b"", b"name one of: db"), (b"../db", b"../db"), (b"x" * 4096, b"xxx")):
            stream = self.nbd_greeting()
            data = struct.pack(">I", len(name)) + name + bytes(2)
            send(stream, b"IHAVEOPT" + struct.pack(">II", go, len(data)) + data)
            _, option, reply, length = struct.unpack(">QIII", read_exactly(stream, 20))
            self.assertEqual((option, reply), (go, 0x80000006))
            self.assertIn(text, read_exactly(stream, length))
        # The old way of asking knows no error: the connection ends.
        stream = self.nbd_greeting()
        send(stream, b"IHAVEOPT" + struct.pack(">II", 1, 7) + b"nothing")
        self.assertEqual(read_to_end(stream), b"")
        with self.assertRaises(nbd.Error) as caught:
            connect(self.vs1, "nothing")
        self.assertEqual(caught.exception.errno, "ENOENT")
        done = run("nbdinfo", self.vs1.uri("nothing"), check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("nothing", done.stderr)

    def test_many_connections_that_say_nothing(self):
        streams = [self.stream(node.port) for node in self.nodes for _ in range(50)]
        streams += [self.stream(self.vs1.nbd_port) for _ in range(50)]
        self.check_services()
        for stream in streams:
            stream.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
