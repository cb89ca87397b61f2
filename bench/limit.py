"""The limit that the short form watches: CPU per 4 KiB write, as a multiple of nbdkit's.

Both are measured in turns on the same machine, so that the ratio says more about datom than about
the machine. bench/limits.json has the ratio of the day when somebody recorded it.
"""

import json
import statistics
from pathlib import Path

from systems import Failure

FILE = Path(__file__).resolve().parent / "limits.json"
JOB = "w4k_qd32"
REFERENCE = "nbdkit-file"
TOLERANCE = 1.3


def ratio_of(runs):
    """Median over the rounds. `runs`: {system: runs in the order of the rounds}."""
    pairs = zip(runs["datom"], runs[REFERENCE])
    return statistics.median(ours.cpu_ms_per_1000 / theirs.cpu_ms_per_1000
                             for ours, theirs in pairs)


def recorded():
    try:
        return json.loads(FILE.read_text())[JOB]["cpu_to_nbdkit_file"]
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f"{FILE.name} has no limit for {JOB} ({error}): --record-limit makes it") from None


def record(ratio, facts):
    kept = {name: text for name, text in facts if name in ("date", "commit", "processor", "kernel")}
    FILE.write_text(json.dumps({JOB: {"cpu_to_nbdkit_file": round(ratio, 3), **kept}}, indent=1) + "\n")


def verdict(ratio, limit):
    """What there is to say, and whether it is good."""
    text = (f"{JOB}: a write costs {ratio:.2f} times nbdkit's CPU in the same rounds; recorded are "
            f"{limit:.2f}, at most {limit * TOLERANCE:.2f} is allowed")
    if ratio > limit * TOLERANCE:
        return False, (f"{text}: FAILED. ./dev bench --job {JOB} shows the CPU by process; if it has "
                       f"to be so, --record-limit")
    if ratio < limit / TOLERANCE:
        text += ". Better by far: keep it with --record-limit"
    return True, text
