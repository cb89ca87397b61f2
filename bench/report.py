"""The results of `./dev bench` as a table for people."""

COLUMNS = [("job", "<11"), ("system", "<12"), ("IOPS", ">8"), ("MiB/s", ">8"), ("p50 us", ">8"),
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


def line(words):
    return "".join(f"{word:{width}}" for word, (_, width) in zip(words, COLUMNS)).rstrip()


def table(results):
    lines = [line([name for name, _ in COLUMNS])]
    last = None
    for result in results:
        words = cells(result)
        if result.job == last:
            words[0] = ""
        last = result.job
        lines.append(line(words))
    return "\n".join(lines)


def process_words(result):
    for role, cpu in result.cpu_by_process.items():
        kernel = result.system_cpu_by_process[role]
        wakeups = result.wakeups_by_process.get(role)
        slept = "" if wakeups is None else f", {wakeups:.2f} wake-ups"
        yield f"{role} {cpu:.2f} ({kernel:.2f} in the kernel{slept})"


def by_process(results):
    """CPU ms per 1000 I/Os, and how often a thread slept per I/O."""
    return "\n".join(f"{result.job:<11}{result.system:<12}" + "; ".join(process_words(result))
                     for result in results)
