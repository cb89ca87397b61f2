"""The results of `./dev bench`: as tables for people, and as docs/benchmarks.md."""

PLAIN = [("job", "<11"), ("system", "<13"), ("IOPS", ">8"), ("MiB/s", ">8"), ("p50 us", ">8"),
         ("p99 us", ">8"), ("p99.9 us", ">9"), ("worst ms", ">9"), ("CPU ms", ">8"),
         ("written", ">8"), ("IOPS/nbdkit", ">12"), ("CPU/nbdkit", ">11"), ("IOPS/qemu", ">10"),
         ("CPU/qemu", ">9")]


def ratio_cells(ratios):
    return [f"{ratios['iops']:.2f}", f"{ratios['cpu']:.2f}"] if ratios else ["", ""]


def cells(result):
    written = "" if result.written_per_byte is None else f"{result.written_per_byte:.2f}"
    return [result.job, result.system, f"{result.iops:.0f}", f"{result.mib_s:.1f}",
            f"{result.p50_us:.0f}", f"{result.p99_us:.0f}", f"{result.p999_us:.0f}",
            f"{result.worst_ms:.1f}", f"{result.cpu_ms_per_1000:.1f}", written,
            *ratio_cells(result.to_nbdkit_file), *ratio_cells(result.to_qemu_nbd)]


def rows(results):
    """Cells of each result; a job is named once."""
    last = None
    for result in results:
        words = cells(result)
        if result.job == last:
            words[0] = ""
        last = result.job
        yield words


def plain_line(words):
    return "".join(f"{word:{width}}" for word, (_, width) in zip(words, PLAIN)).rstrip()


def table(results):
    return "\n".join(map(plain_line, [[name for name, _ in PLAIN], *rows(results)]))


def process_words(result):
    for role, cpu in result.cpu_by_process.items():
        kernel = result.system_cpu_by_process[role]
        wakeups = result.wakeups_by_process.get(role)
        slept = "" if wakeups is None else f", {wakeups:.2f} wake-ups"
        yield f"{role} {cpu:.2f} ({kernel:.2f} in the kernel{slept})"


def by_process(results):
    """CPU ms per 1000 I/Os, and how often a thread slept per I/O."""
    return "\n".join(f"{result.job:<11}{result.system:<13}" + "; ".join(process_words(result))
                     for result in results)


# ---- docs/benchmarks.md


def markdown_line(words):
    return "| " + " | ".join(words) + " |"


def markdown_table(results):
    rule = "|" + "|".join("---" if width[0] == "<" else "---:" for _, width in PLAIN) + "|"
    return "\n".join([markdown_line([name for name, _ in PLAIN]), rule,
                      *map(markdown_line, rows(results))])


def markdown_by_process(results):
    lines = ["| job | system | by process |", "|---|---|---|"]
    lines += [markdown_line([result.job, result.system, "; ".join(process_words(result))])
              for result in results]
    return "\n".join(lines)


PAGE = """\
# Benchmarks

Written by `./dev bench --record`; [performance.md](performance.md) says how to measure and what the figures mean.

{facts}

`nbdkit-file` and `qemu-nbd` keep one copy. nbdkit answers a write once it is in the page cache, qemu-nbd (cache=none) once it is on the
device; datom once it is on stable storage on two of three servers. All of them, fio and ZooKeeper share the processors.

CPU ms: of all of a system's processes and of fio, per 1000 I/Os. Written: bytes that its processes sent to the device per byte
that fio wrote. Worst ms: the longest that one I/O took in all rounds.

{table}

CPU ms per 1000 I/Os, by process; wake-ups: how often a thread went to sleep, per I/O.

{by_process}
"""


def page(facts, results):
    return PAGE.format(facts="\n".join(f"- {name}: {text}" for name, text in facts),
                       table=markdown_table(results), by_process=markdown_by_process(results))
