"""Separate hosts on one machine: network namespaces on a bridge, with faults between them.

isolate() puts this process into namespaces of its own: nothing that is made afterwards (hosts,
interfaces, mounts, processes) has a name outside, and the kernel removes all of it when this
process ends, however it ends.
"""

import os
import signal
import subprocess
import sys
import time

NETWORK = "10.77.0"
INSIDE = "DATOM_FAULTS_INSIDE"


class Unavailable(Exception):
    """This machine does not let us make namespaces; the message says what is missing."""


def command(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=60, check=False, **options)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, words))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def isolation():
    # Whoever is killed takes those along that it started.
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user"]
    return words


def check_available():
    """Raises Unavailable unless namespaces, their links and packet filters can be made here."""
    probe = ("set -e; ip link add datom0 type bridge; ip link add one type veth peer name two; "
             "nft add table inet datom; nft 'add chain inet datom input { type filter hook input priority 0; }'")
    command(*isolation(), "bash", "-c", probe)


def isolate(environment):
    """Runs this program again, isolated, with `environment` told to it; its exit status."""
    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    child = subprocess.Popen([*isolation(), sys.executable, "-B", *sys.argv],
                             env={**os.environ, **environment, INSIDE: "1"}, start_new_session=True)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        child.kill()
        child.wait()


def is_isolated():
    return INSIDE in os.environ


class Host:
    """Its loopback and one link to the bridge. Faults are filters on what it receives."""

    def __init__(self, name, number):
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        self._namespace = f"/proc/{self._holder.pid}/ns/net"
        self._wait_for_namespace()
        command("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", self._holder.pid)
        command("ip", "link", "set", f"to-{name}", "master", "bridge", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("nft", "add table inet faults; add chain inet faults input { type filter hook input priority 0; }")

    def _wait_for_namespace(self):
        deadline = time.monotonic() + 30
        while os.readlink(self._namespace) == os.readlink("/proc/self/ns/net"):
            if time.monotonic() > deadline or self._holder.poll() is not None:
                raise Unavailable(f"no network namespace for {self.name}")
            time.sleep(0.005)

    def inside(self, *words):
        """The command line that runs `words` on this host, as the same process."""
        return ["nsenter", f"--net={self._namespace}", *map(str, words)]

    def run(self, *words):
        return command(*self.inside(*words))

    def start(self, *words, log, **options):
        with open(log, "ab") as output:
            return subprocess.Popen(self.inside(*words), stdout=output, stderr=output,
                                    **{"stdin": subprocess.DEVNULL, **options})

    def deafen(self, *others):
        """Nothing that `others` send arrives here any more."""
        addresses = ", ".join(other.address for other in others)
        self.run("nft", f"add rule inet faults input ip saddr {{ {addresses} }} drop")

    def heal(self):
        self.run("nft", "flush chain inet faults input")


class Network:
    """The hosts, and the bridge between them, on which this process itself is 10.77.0.1."""

    def __init__(self, names):
        command("ip", "link", "set", "lo", "up")
        command("ip", "link", "add", "bridge", "type", "bridge")
        command("ip", "address", "add", f"{NETWORK}.1/24", "dev", "bridge")
        command("ip", "link", "set", "bridge", "up")
        self._hosts = {name: Host(name, 11 + number) for number, name in enumerate(names)}

    def __getitem__(self, name):
        return self._hosts[name]

    def cut(self, some, others):
        """Neither side hears the other."""
        for host in some:
            host.deafen(*others)
        for host in others:
            host.deafen(*some)

    def heal(self):
        for host in self._hosts.values():
            host.heal()
