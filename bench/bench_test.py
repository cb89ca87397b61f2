"""What `./dev bench` computes from what it measured. Run by ctest: python3 -m unittest bench_test"""

import unittest
from dataclasses import asdict

import limit
from measure import JOBS, Job, Run, Use, compare, summarise
from report import page, table
from sync import Clock, Sample, distinct_blocks, metric, worse
from where import samples_of, what_for


class System:
    def __init__(self, name):
        self.name = name


WRITES = next(job for job in JOBS if job.name == "w4k_qd32")


def run_of(iops, cpu_s, worst_ms=1.0, ios=1000):
    return Run(ios, ios * 4096, iops, iops / 256, 100.0, 200.0, 300.0, worst_ms,
               {"leader": Use(cpu_s / 2, cpu_s / 4, ios * 8192, {"1": 500}),
                "fio": Use(cpu_s / 4, 0.0, 0, {"fio": 10})})


class Measuring(unittest.TestCase):
    def test_what_was_used_meanwhile_counts_threads_that_began_and_forgets_those_that_ended(self):
        before = Use(1.0, 2.0, 100, {"1": 5, "2": 7})
        after = Use(1.5, 2.25, 300, {"1": 6, "3": 4})
        used = after.since(before)
        self.assertEqual((0.75, 200, 5), (used.cpu_s, used.written, used.wakeups))

    def test_a_process_whose_threads_are_not_watched_has_no_wakeups(self):
        self.assertIsNone(Use().since(Use()).wakeups)

    def test_cpu_is_that_of_all_processes_and_the_client_per_1000_ios(self):
        run = run_of(1000, 0.040)
        self.assertAlmostEqual(40.0, run.cpu_ms_per_1000)
        self.assertAlmostEqual(30.0, run.cpu_by_process["leader"])
        self.assertAlmostEqual(10.0, run.system_cpu_by_process["leader"])
        self.assertAlmostEqual(0.5, run.wakeups_by_process["leader"])
        self.assertAlmostEqual(2.0, run.written_per_byte)

    def test_a_result_is_the_median_of_its_runs_and_the_worst_of_all(self):
        result = summarise(System("datom"), WRITES,
                           [run_of(900, 0.050, 7.0), run_of(1000, 0.040), run_of(1100, 0.020)])
        self.assertEqual((1000, 40.0, 7.0), (result.iops, result.cpu_ms_per_1000, result.worst_ms))

    def test_a_result_of_reads_says_nothing_of_bytes_written(self):
        reads = Job("r4k_qd1", "randread", 4096, 1)
        self.assertIsNone(summarise(System("datom"), reads, [run_of(1, 1.0)]).written_per_byte)

    def test_the_json_of_a_result_has_the_fields_that_others_read(self):
        result = asdict(summarise(System("datom"), WRITES, [run_of(1000, 0.040)]))
        self.assertLessEqual({"system", "job", "iops", "mib_s", "p50_us", "p99_us", "p999_us",
                              "worst_ms", "cpu_ms_per_1000"}, set(result))

    def test_ratios_are_to_the_reference_of_the_same_job(self):
        ours = summarise(System("datom"), WRITES, [run_of(500, 0.060)])
        nbdkit = summarise(System("nbdkit-file"), WRITES, [run_of(1000, 0.020)])
        compare([ours, nbdkit])
        self.assertEqual({"iops": 0.5, "cpu": 3.0}, ours.to_nbdkit_file)
        self.assertIsNone(nbdkit.to_nbdkit_file)
        self.assertIsNone(ours.to_qemu_nbd)
        self.assertIn("0.50", table([ours, nbdkit]))
        self.assertIn("| w4k_qd32 | datom |", page([("date", "today")], [ours, nbdkit]))


class Limit(unittest.TestCase):
    def test_the_ratio_is_the_median_of_the_rounds(self):
        runs = {"datom": [run_of(1, cpu) for cpu in (0.040, 0.090, 0.060)],
                "nbdkit-file": [run_of(1, cpu) for cpu in (0.020, 0.020, 0.020)]}
        self.assertAlmostEqual(3.0, limit.ratio_of(runs))

    def test_a_third_more_is_bad_and_a_quarter_more_is_not(self):
        self.assertTrue(limit.verdict(2.5, 2.0)[0])
        good, text = limit.verdict(2.7, 2.0)
        self.assertFalse(good)
        self.assertIn("2.70 times nbdkit's CPU", text)
        self.assertIn("recorded are 2.00", text)

    def test_the_limit_that_is_recorded_is_of_use(self):
        self.assertGreater(limit.recorded(), 0)


class Where(unittest.TestCase):
    def test_a_sample_counts_for_what_is_nearest_to_its_innermost_function(self):
        self.assertEqual("malloc, free", what_for(["_int_malloc", "operator new(unsigned long)",
                                                   "datom::nbd::Transmission::read_request()"]))
        self.assertEqual("kernel: files", what_for(["_raw_spin_unlock_irqrestore", "virtqueue_kick",
                                                    "__x64_sys_io_uring_enter", "do_syscall_64"]))
        self.assertEqual("replica", what_for(["std::vector<int>::push_back(int&&)",
                                              "datom::volume::Replica::serve()",
                                              "datom::nbd::Transmission::execute()"]))
        self.assertEqual("else", what_for(["main"]))

    def test_samples_are_taken_apart(self):
        text = ("  123 \n\tffffffff81 tcp_sendmsg\n\t    7f00 __sys_sendmsg\n\n"
                "  124 \n\t    5600 datom::rpc::FrameWriter::run(int, int)\n\n")
        self.assertEqual([(123, ["tcp_sendmsg", "__sys_sendmsg"]),
                          (124, ["datom::rpc::FrameWriter::run(int, int)"])],
                         list(samples_of(text)))


class Sync(unittest.TestCase):
    def test_a_block_written_twice_has_changed_once(self):
        self.assertAlmostEqual(10, distinct_blocks(10, 1 << 30), places=3)
        self.assertAlmostEqual(632.1, distinct_blocks(1000, 1000), places=1)
        self.assertAlmostEqual(1000, distinct_blocks(100000, 1000), places=1)

    def test_the_rate_is_that_between_the_samples_of_the_time(self):
        clock = Clock(0)
        clock.samples = [Sample(at, 100 * at + (1e6 if at > 8 else 0)) for at in range(10)]
        self.assertEqual((500, 5), clock.writes(2, 7))
        self.assertEqual(100, clock.rate(2, 7))

    def test_the_metric_is_that_of_the_volume(self):
        text = 'a_total{service="x",volume="v"} 1\na_total{service="x",volume="bench"} 2.5e+03\n'
        self.assertEqual(2500, metric(text, "a_total"))
        self.assertEqual(0, metric(text, "b_total"))

    def test_what_is_worse_than_it_should_be_is_named(self):
        figures = {"functional_s": 20, "moved_per_changed": 1.0, "clients_part": 0.5}
        self.assertEqual(["functional_s", "clients_part"], worse(figures))


if __name__ == "__main__":
    unittest.main()
