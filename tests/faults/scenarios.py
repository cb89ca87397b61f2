"""The faults: each happens to a domain under load, lasts, and is over when its function returns.

A function says what it does to which server (`play.touch`), so that connections through it are not asked for more than
they can give; through every other server operations must be acknowledged without an error.
"""

import os
import signal
import time
from dataclasses import dataclass
from typing import Callable

from clients import FioJob, QemuJob
from domain import SERVERS

LEASE = 0.7               # seconds: longer than a lease, shorter than an election timeout
ELECTION = 3              # longer than an election takes
SESSION = 9               # longer than a coordination session lasts
CUT = 5                   # a cut that elections and reconnections happen in
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Fault:
    name: str
    happen: Callable
    short: bool


FAULTS = []


def fault(name, short=False):
    def add(function):
        FAULTS.append(Fault(name, function, short))
        return function
    return add


# ---- processes that die


@fault("kill -9 of the leader", short=True)
def kill_leader(play):
    leader = play.leader()
    play.kill(leader)
    play.io_goes_on(2)
    play.start(leader)


@fault("kill -9 of a follower")
def kill_follower(play):
    follower = play.followers()[0]
    play.kill(follower)
    play.io_goes_on(2)
    play.start(follower)


@fault("kill -9 of leader, then follower, 3 turns")
def kill_in_turn(play):
    for turn in range(3):
        for victim in (play.leader(), play.followers()[turn % 2]):
            play.kill(victim)
            play.io_goes_on()
            play.start(victim)
            play.healthy()


@fault("kill -9 of leader and follower at once")
def kill_two(play):
    victims = [play.leader(), play.followers()[0]]
    play.no_majority()
    for victim in victims:
        play.kill(victim)
    time.sleep(ELECTION)
    for victim in victims:
        play.start(victim)


@fault("kill -9 of the leader under fio --verify")
def kill_leader_under_fio(play):
    leader = play.leader_of("fio")
    through = next(name for name in SERVERS if name != leader)
    job = FioJob(play.domain, "fio", through)
    job.wait_started()
    play.kill(leader)
    play.io_goes_on(2)
    play.start(leader)
    job.finish()


# ---- processes that stand still


def pause(play, server, seconds):
    play.touch(server)
    play.domain.servers[server].signal(signal.SIGSTOP)
    time.sleep(seconds)
    play.domain.servers[server].signal(signal.SIGCONT)


@fault(f"SIGSTOP of the leader, {LEASE} s (lease)")
def pause_past_lease(play):
    for _ in range(3):
        pause(play, play.leader(), LEASE)
        play.io_goes_on(1)


@fault(f"SIGSTOP of the leader, {ELECTION} s (election)", short=True)
def pause_past_election(play):
    pause(play, play.leader(), ELECTION)


@fault(f"SIGSTOP of the leader, {SESSION} s (session)")
def pause_past_session(play):
    pause(play, play.leader(), SESSION)


@fault(f"SIGSTOP of a follower, {SESSION} s")
def pause_follower(play):
    pause(play, play.followers()[0], SESSION)


# ---- networks that are cut


def cut_for(play, seconds):
    time.sleep(seconds)
    play.domain.network.heal()


@fault("leader cut off from the other servers", short=True)
def leader_cut_off(play):
    leader = play.leader()
    play.touch(leader)
    play.network.cut([play.host(leader)], play.hosts(play.others(leader)))
    cut_for(play, CUT)


@fault("follower cut off from the other servers")
def follower_cut_off(play):
    follower = play.followers()[0]
    play.touch(follower)
    play.network.cut([play.host(follower)], play.hosts(play.others(follower)))
    cut_for(play, CUT)


@fault("leader hears no other server, they hear it", short=True)
def leader_deaf(play):
    leader = play.leader()
    play.touch(leader)
    play.host(leader).deafen(*play.hosts(play.others(leader)))
    cut_for(play, CUT)


@fault("leader is heard by no other server, hears them")
def leader_mute(play):
    leader = play.leader()
    play.touch(leader)
    for other in play.hosts(play.others(leader)):
        other.deafen(play.host(leader))
    cut_for(play, CUT)


@fault("follower hears no other server, they hear it")
def follower_deaf(play):
    follower = play.followers()[0]
    play.touch(follower)
    play.host(follower).deafen(*play.hosts(play.others(follower)))
    cut_for(play, CUT)


@fault("leader and one follower do not hear each other")
def one_link_cut(play):
    leader, follower = play.leader(), play.followers()[0]
    # Who uses the follower's server reaches no leader while that one stays.
    play.touch(leader, follower)
    play.network.cut([play.host(leader)], [play.host(follower)])
    cut_for(play, CUT)


@fault("no server hears another (no majority)")
def all_cut_off(play):
    play.no_majority()
    for name in SERVERS:
        play.host(name).deafen(*play.hosts(play.others(name)))
    cut_for(play, CUT)


@fault(f"leader cut off from ZooKeeper, {SESSION} s")
def leader_without_zookeeper(play):
    play.network.cut([play.host(play.leader())], [play.host("zookeeper")])
    cut_for(play, SESSION)


@fault(f"all servers cut off from ZooKeeper, {SESSION} s")
def all_without_zookeeper(play):
    play.network.cut(play.hosts(SERVERS), [play.host("zookeeper")])
    cut_for(play, SESSION)


@fault("leader cut off from the clients")
def leader_without_clients(play):
    leader = play.leader()
    play.touch(leader)
    play.network.cut([play.host(leader)], [play.host("client")])
    cut_for(play, CUT)


# ---- coordination


@fault("kill -9 of ZooKeeper, back after 4 s", short=True)
def kill_zookeeper(play):
    play.domain.zookeeper.kill()
    play.io_goes_on(4)
    play.start_zookeeper()


@fault("kill -9 of ZooKeeper, then of the leader")
def kill_zookeeper_and_leader(play):
    leader = play.leader()
    play.no_majority()  # nobody can be elected before ZooKeeper is back
    play.domain.zookeeper.kill()
    time.sleep(1)
    play.kill(leader)
    time.sleep(2)
    play.start_zookeeper()
    play.start(leader)


# ---- disks that are full


@fault("disk of a follower full")
def follower_disk_full(play):
    disk = play.full_disk
    play.lead_elsewhere(disk.server)
    with disk.filled(leave=0):
        play.io_goes_on(4)
    play.touch(disk.server)
    play.stop(disk.server)  # a replica whose disk failed tries again when it is started again
    play.start(disk.server)


@fault("disk of the leader nearly full")
def leader_disk_full(play):
    disk = play.full_disk
    play.lead(disk.server)
    play.allow("ENOSPC")
    with disk.filled(leave=16 * MEGABYTE):
        play.wait_error("ENOSPC")
        time.sleep(2)


# ---- everything, and nothing wrong at all


@fault("kill -9 of every process on every host")
def kill_everything(play):
    play.no_majority()
    play.kill(*SERVERS)
    play.domain.config.kill()
    play.domain.zookeeper.kill()
    play.start_zookeeper()
    play.domain.config.start()
    play.start(*SERVERS)


@fault("each server stopped and started in turn, qemu-io")
def rolling_upgrade(play):
    job = QemuJob(play.domain, "qemu", SERVERS[0])
    job.wait_started()
    for name in SERVERS:
        play.stop(name)
        play.io_goes_on(1)
        play.start(name)
        play.healthy()
    job.finish()


# ---- a disk of limited size


class SmallDisk:
    """The filesystem of one server, which a file of ours fills."""

    def __init__(self, server, path):
        self.server = server
        self._ballast = path / "ballast"

    def filled(self, leave):
        return _Ballast(self._ballast, leave)


class _Ballast:
    def __init__(self, path, leave):
        self._path = path
        self._leave = leave

    def __enter__(self):
        with open(self._path, "wb", buffering=0) as file:
            room = os.statvfs(self._path.parent)
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_bsize - self._leave))
        return self

    def __exit__(self, *_):
        self._path.unlink()
