#!/usr/bin/env python3
"""`./dev demo`: a volume that survives its leader, shown in a minute."""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from playground import Failure, Playground, free_ports, run

TREES = ("/usr/share/doc", "/usr/include", "/usr/share", "/usr/lib/python3")
MIB = 1 << 20
LEAST_TREE = 16 * MIB
MOST_TREE = 400 * MIB
NEEDED_SPACE = 4 << 30
SERVERS = ("vs1", "vs2", "vs3")

REGION = 32 * MIB  # what fio writes between one kill and the next
BLOCKS_PER_SECOND = 1500  # each written and read back: a run lasts long enough to kill within it


class Story:
    """Says what is done, and how long it took."""

    def __init__(self):
        self.began = 0.0

    def step(self, what):
        self.began = time.monotonic()
        print(f"  {what:<58}", end="", flush=True)

    def done(self, found):
        print(f" {time.monotonic() - self.began:6.2f} s  {found}", flush=True)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def megabytes_a_second(size, story):
    return f"{size / 1e6 / (time.monotonic() - story.began):.0f} MB/s"


# ---- a disk image


def tree_size(tree):
    """(bytes that its files take on a filesystem of 4 KiB blocks, files)."""
    size = files = 0
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                size += -(-os.path.getsize(path) // 4096) * 4096
            files += 1
    return size, files


def choose_tree():
    for tree in TREES:
        size, files = tree_size(tree)
        if LEAST_TREE <= size <= MOST_TREE:
            return tree, size, files
    raise Failure(f"none of {', '.join(TREES)} holds {LEAST_TREE // MIB} to {MOST_TREE // MIB} MiB")


def make_image(story, path):
    tree, size, files = choose_tree()
    story.step(f"mkfs.ext4 -d {tree} disk.img")
    mebibytes = size * 5 // 4 // MIB + 64
    environment_path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    program = shutil.which("mkfs.ext4", path=environment_path) or "mkfs.ext4"
    run(program, "-q", "-F", "-b", "4096", "-N", files * 2, "-d", tree, path, f"{mebibytes}M")
    size = path.stat().st_size  # mkfs may have left off a short last group
    story.done(f"{size // MIB} MiB, {files} files")
    return size


def read_back(story, play, uri, expected, name):
    copy = play.root / "copy.img"
    story.step(f"nbdcopy {uri} copy.img")
    run("nbdcopy", "--no-extents", uri, copy)
    speed = megabytes_a_second(copy.stat().st_size, story)
    found = sha256(copy)
    copy.unlink()
    if found != expected:
        raise Failure(f"{name}: read back sha256 {found}, expected {expected}")
    story.done(f"{speed}, sha256 {found[:12]}... equal")


# ---- one process


def demo(play, story):
    port = free_ports(7)
    nbd = {name: f"nbd://127.0.0.1:{port + 4 + i}/demo" for i, name in enumerate(SERVERS)}
    image = play.root / "disk.img"
    size = make_image(story, image)
    expected = sha256(image)

    story.step("datom dev")
    process = play.start_dev(port, port + 4)
    story.done("a config service and 3 volume servers in one process")
    story.step(f"datom volume create demo --size {size}")
    play.command("volume", "create", "demo", "--size", size)
    leader = play.volume("demo")["leader"]
    story.done(f"3 replicas, {leader} leads")

    story.step(f"nbdcopy disk.img {nbd[leader]}")
    run("nbdcopy", image, nbd[leader])
    story.done(megabytes_a_second(size, story))

    story.step(f"datom stopservice {leader}   (the leader)")
    play.command("stopservice", leader)
    volume = play.wait_for("demo", lambda v: v["leader"] not in (None, leader), 30,
                           "has another leader")
    story.done(f"{volume['leader']} leads, {volume['state']}")
    other = next(name for name in SERVERS if name not in (leader, volume["leader"]))
    read_back(story, play, nbd[other], expected, other)

    story.step("Ctrl-C and datom dev again, on the same folder")
    process.send_signal(signal.SIGINT)
    if process.wait(30) != 0:
        raise Failure(f"datom dev ended with {process.returncode}")
    process = play.start_dev(port, port + 4)
    volume = play.wait_for("demo", lambda v: v["state"] == "healthy", 60, "is healthy")
    story.done(f"{volume['leader']} leads, {volume['state']}")
    read_back(story, play, nbd[leader], expected, leader)
    return "every byte is there: after the stop of the leader, and after that of everything"


# ---- processes, and kill -9


def start_cluster(play, story, first_port):
    zookeeper, config = first_port, first_port + 1
    coordination = f"zk://127.0.0.1:{zookeeper}"
    story.step("ZooKeeper")
    process = play.start_zookeeper(zookeeper)
    story.done(f"pid {process.pid}, port {zookeeper}")

    story.step("datom init; addnode, startservice for each of 3 nodes")
    play.command("init", "--coordination", coordination)
    for i, name in enumerate(SERVERS):
        node = f"n{i + 1}"
        services = ["--service", f"{name}=volumeserver:{config + 1 + i}:{config + 4 + i}"]
        if i == 0:
            services += ["--service", f"cfg=configservice:{config}"]
        play.command("addnode", "--yes", "--coordination", coordination, "--name", node,
                     "--nic_if", "127.0.0.1", *services, node=node)
        if i == 0:
            play.command("startservice", "cfg", node=node)
        play.command("startservice", name, node=node)
    story.done("a config service and 3 volume servers, a process each")
    return {name: f"nbd://127.0.0.1:{config + 4 + i}/demo" for i, name in enumerate(SERVERS)}


def node_of(service):
    return f"n{SERVERS.index(service) + 1}"


def fio_command(uri, offset, *more):
    return ("fio", "--name=demo", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k",
            "--iodepth=16", f"--offset={offset}", f"--size={REGION}", "--verify=crc32c",
            "--verify_fatal=1", "--verify_state_save=0", "--randseed=4711",
            "--output-format=json", *more)


def fio_result(path, returncode):
    text = path.read_text()
    if returncode != 0 or "{" not in text:
        raise Failure(f"fio saw an error: exit status {returncode}\n{text[-2000:]}")
    return json.loads(text[text.index("{"):])["jobs"][0]


def kill_during_fio(play, story, uris, offset):
    """One kill -9 of the leader under a fio that uses another server; the pause in seconds."""
    leader = play.volume("demo", node="n1")["leader"]
    via = next(name for name in SERVERS if name != leader)
    services = play.query("status", node="n1")["services"]
    pid = next(service["pid"] for service in services if service["name"] == leader)

    log = f"fio-{offset // REGION}.log"
    story.step(f"fio through {via}; kill -9 {pid}   ({leader}, the leader)")
    fio = play.start(log, *fio_command(uris[via], offset, "--verify_backlog=256",
                                       f"--rate_iops={BLOCKS_PER_SECOND},{BLOCKS_PER_SECOND}"))
    time.sleep(2)
    if fio.poll() is None:
        os.kill(pid, signal.SIGKILL)
    fio.wait(300)
    job = fio_result(play.root / log, fio.returncode)
    if job["error"] != 0:
        raise Failure(f"fio saw error {job['error']}")
    longest = max(job[way]["clat_ns"]["max"] for way in ("read", "write")) / 1e9
    successor = play.volume("demo", node="n1")["leader"]
    if successor == leader:
        raise Failure(f"{leader} leads still: fio ended before the kill")
    written, read = job["write"]["total_ios"], job["read"]["total_ios"]
    story.done(f"{successor} leads; {written} writes, {read} verified reads, no error; "
               f"longest pause {longest * 1e3:.0f} ms")

    story.step(f"datom startservice {leader}")
    play.command("startservice", leader, node=node_of(leader))
    play.wait_for("demo", lambda v: v["state"] == "healthy", 60, "is healthy", node="n1")
    story.done("caught up, healthy")
    return longest


def demo_cluster(play, story, kills):
    uris = start_cluster(play, story, free_ports(8))
    image = play.root / "disk.img"
    image_size = make_image(story, image)
    expected = sha256(image)
    size = image_size + kills * REGION
    story.step(f"datom volume create demo --size {size}")
    play.command("volume", "create", "demo", "--size", size, node="n1")
    leader = play.volume("demo", node="n1")["leader"]
    story.done(f"3 replicas, {leader} leads")
    story.step(f"nbdcopy disk.img {uris[leader]}")
    run("nbdcopy", image, uris[leader])
    story.done(megabytes_a_second(image_size, story))

    pauses = [kill_during_fio(play, story, uris, image_size + i * REGION) for i in range(kills)]

    leader = play.volume("demo", node="n1")["leader"]
    via = next(name for name in reversed(SERVERS) if name != leader)
    story.step(f"fio --verify_only of all that, through {via}")
    for i in range(kills):
        log = f"fio-again-{i}.log"
        fio = play.start(log, *fio_command(uris[via], image_size + i * REGION, "--verify_only"))
        fio.wait(300)
        fio_result(play.root / log, fio.returncode)
    story.done(f"{kills * REGION // 4096} blocks")
    prefix = play.root / "prefix.img"
    story.step(f"nbdcopy {uris[via]} copy.img")
    run("nbdcopy", "--no-extents", uris[via], prefix)
    speed = megabytes_a_second(size, story)
    os.truncate(prefix, image_size)
    if sha256(prefix) != expected:
        raise Failure("the image that was copied in reads back changed")
    story.done(f"{speed}, sha256 {expected[:12]}... equal")
    return (f"kill -9 of the leader, {kills} times: no error, nothing lost, longest pause "
            f"{max(pauses) * 1e3:.0f} ms")


def main():
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--cluster", action="store_true",
                        help="with ZooKeeper and a process for each service, and kill -9 under load")
    parser.add_argument("--kills", type=int, default=3, metavar="N",
                        help="with --cluster: how often (default: 3)")
    parser.add_argument("--datom", metavar="PROGRAM",
                        default=Path(__file__).parent.parent / "build/release/datom",
                        help="the datom to show (default: build/release/datom)")
    options = parser.parse_args()

    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)

    story = Story()
    try:
        with Playground(options.datom) as play:
            if shutil.disk_usage(play.root).free < NEEDED_SPACE:
                raise Failure(f"{play.root.parent} has less than 4 GiB free; set TMPDIR")
            print(f"datom demo, in {play.root}")
            try:
                found = (demo_cluster(play, story, options.kills) if options.cluster
                         else demo(play, story))
            except Failure as failure:
                raise Failure(f"{failure}\n{play.logs()}".rstrip()) from None
    except Failure as failure:
        print(f"\ndemo: FAILED: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
