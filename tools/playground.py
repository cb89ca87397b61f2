"""A datom domain to play with on this machine: a folder, ports and processes that go away again.

Used by the demonstrations. Everything runs on 127.0.0.1 and below one temporary folder; leaving
the `with Playground(...)` block, however that happens, ends every process and removes the folder.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TOOLS = Path(__file__).resolve().parent


class Failure(Exception):
    """Something that had to work did not; the message is for the reader."""


def free_ports(count):
    """The first of `count` consecutive ports that nobody listens on, below the range that the
    kernel takes for outgoing connections."""
    for _ in range(200):
        first = random.randrange(20000, 32000 - count)
        with contextlib.ExitStack() as bound:
            try:
                for port in range(first, first + count):
                    probe = bound.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise Failure(f"found no {count} free ports in a row")


def wait_until(condition, seconds, what):
    """Asks again and again; what the condition gave when it was true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds} s in vain until {what}")
        time.sleep(0.05)


def run(*command, seconds=600):
    """What the command printed; its complaint as a Failure where it fails."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=seconds, check=False)
    except FileNotFoundError:
        raise Failure(f"{command[0]} is not installed: ./dev deps installs it") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)}: not done after {seconds} s") from None
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit status {done.returncode}\n"
                      f"{(done.stderr or done.stdout).strip()}")
    return done.stdout


class Playground:
    """`datom` is the program. The folder is made below TMPDIR, else /var/tmp: a real disk rather
    than memory."""

    def __init__(self, datom):
        self.datom = Path(datom).resolve()
        self.root = None
        self.started = []

    def __enter__(self):
        if not os.access(self.datom, os.X_OK):
            raise Failure(f"there is no program {self.datom}: ./dev build makes it")
        base = os.environ.get("TMPDIR", "/var/tmp")
        self.root = Path(tempfile.mkdtemp(prefix="datom-", dir=base))
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._end_processes()
        shutil.rmtree(self.root, ignore_errors=True)

    def _services(self):
        """Ids of the services that `datom startservice` started for us in the background."""
        program = os.fsencode(str(self.datom))
        folder = os.fsencode(str(self.root))
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0] == program and any(word.startswith(folder) for word in words):
                    yield int(entry.name)

    def _end_processes(self):
        for process in self.started:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 10
        while (services := list(self._services())) and time.monotonic() < deadline:
            for service in services:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(service, signal.SIGKILL)
            time.sleep(0.02)

    def start(self, log, *command):
        """A process of our own, in our folder, and in a session of its own so that Ctrl-C leaves it
        to us."""
        with open(self.root / log, "wb") as output:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=output, cwd=self.root,
                                       start_new_session=True)
        self.started.append(process)
        return process

    def logs(self):
        """The last lines of every log: what a failure is explained with."""
        text = ""
        for log in sorted([*self.root.glob("*.log"), *self.root.glob("*/log/*.log")]):
            lines = log.read_text(errors="replace").splitlines()[-5:]
            text += "".join(f"  {log.relative_to(self.root)}: {line}\n" for line in lines)
        return text

    # ---- datom

    def command(self, *words, node="dev"):
        """`datom WORDS --root FOLDER/NODE`; what it printed."""
        return run(self.datom, *words, "--root", self.root / node)

    def query(self, *words, node="dev"):
        return json.loads(self.command(*words, "-o", "json", node=node))

    def volume(self, name, node="dev"):
        return self.query("volume", "info", name, node=node)

    def wait_for(self, name, wanted, seconds, what, node="dev"):
        """The volume, once `wanted(volume)`."""
        def look():
            volume = self.volume(name, node)
            return volume if wanted(volume) else None
        return wait_until(look, seconds, f"volume {name} {what}")

    def start_dev(self, port, nbd_port):
        """`datom dev`, up."""
        process = self.start("dev.log", self.datom, "dev", "--root", self.root / "dev",
                             "--port", port, "--nbd_port", nbd_port)

        def is_up():
            if process.poll() is not None:
                raise Failure("datom dev ended at once")
            return "is up" in (self.root / "dev.log").read_text()
        wait_until(is_up, 30, "datom dev is up")
        return process

    def start_zookeeper(self, port):
        process = self.start("zookeeper.log", TOOLS / "zookeeper", self.root / "zookeeper", port)

        def answers():
            if process.poll() is not None:
                raise Failure("ZooKeeper ended at once")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False
        wait_until(answers, 30, "ZooKeeper answers")
        return process
