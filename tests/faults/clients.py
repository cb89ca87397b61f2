"""Programs that people use on volumes, as jobs that verify what they read."""

import contextlib
import json
import subprocess
import threading

from domain import Failure, NBD_PORT, wait_for


class Job:
    """What every one of them has: its volume, which it changes."""

    def __init__(self, domain, volume):
        self._domain = domain
        self._volume = volume
        self._first_op = domain.info(volume)["commit_op"]
        self._log = domain.folder / f"{volume}.log"
        self._log.unlink(missing_ok=True)

    def wait_started(self):
        def changed():
            info = self._domain.info(self._volume)
            return info and info["commit_op"] > self._first_op + 20
        wait_for(changed, lambda: f"{self._volume} is written to: {self._log.read_text()[-2000:]}")


class FioJob(Job):
    """fio writes blocks and reads them back, comparing."""

    REGION = 16 << 20
    RATE = 1000  # operations a second: it lasts about 8 s

    def __init__(self, domain, volume, server):
        super().__init__(domain, volume)
        self._process = domain.network["client"].start(
            "fio", "--name=verify", "--ioengine=nbd", f"--uri={domain.uri(server, volume)}", "--rw=randwrite", "--bs=4k",
            "--iodepth=8", f"--size={self.REGION}", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
            "--verify_backlog=128", f"--rate_iops={self.RATE},{self.RATE}", "--output-format=json", log=self._log)

    def finish(self):
        status = self._process.wait(90)
        text = self._log.read_text()
        job = json.loads(text[text.index("{"):])["jobs"][0] if "{" in text else {"error": None}
        if status != 0 or job["error"] != 0:
            raise Failure(f"fio saw an error, exit status {status}:\n{text[-2000:]}")
        if job["read"]["total_ios"] < self.REGION // 4096:
            raise Failure("fio has not read back what it wrote")


class QemuJob(Job):
    """qemu-io writes patterns and reads them back, and connects again when its server goes."""

    SIZE = 8 << 20
    INTERVAL = 0.02

    def __init__(self, domain, volume, server):
        super().__init__(domain, volume)
        image = (f"driver=raw,file.driver=nbd,file.server.type=inet,file.server.host={domain.network[server].address},"
                 f"file.server.port={NBD_PORT},file.export={volume},file.reconnect-delay=60")
        self._process = domain.network["client"].start("qemu-io", "--image-opts", image, log=self._log,
                                                       stdin=subprocess.PIPE, text=True)
        self._stop = threading.Event()
        self._written = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        blocks = self.SIZE // 4096
        try:
            while not self._stop.wait(self.INTERVAL):
                self._written += 1
                offset = self._written * 61 % blocks * 4096
                pattern = self._written % 255 + 1
                self._process.stdin.write(f"write -q -P {pattern} {offset} 4096\nread -q -P {pattern} {offset} 4096\n")
                self._process.stdin.flush()
        except OSError:
            pass  # it ended, which finish() reports

    def finish(self):
        self._stop.set()
        self._thread.join()
        try:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait(90)
        except subprocess.TimeoutExpired:
            raise Failure(f"qemu-io does not end: {self._log.read_text()[-2000:]}") from None
        text = self._log.read_text()
        wrong = [line for line in text.splitlines() if "fail" in line.lower() or "error" in line.lower()]
        if self._process.returncode != 0 or wrong or self._written < 50:
            raise Failure(f"qemu-io saw an error after {self._written} writes: {text[-2000:]}")
