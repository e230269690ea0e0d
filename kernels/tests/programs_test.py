#!/usr/bin/env python3
"""Tests gpu_bench and gpu_parity as programs, on a simulated device: tables, files, exit statuses.

usage: programs_test.py GPU_BENCH_SIMULATED GPU_PARITY_SIMULATED
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BENCH, PARITY = sys.argv[1:3]

# A part of the device that does nothing, and the row that has to notice.
IDLE = [
    ("observe_kernel", "observe/logits"),
    ("observe_kernel", "observe/probabilities"),
    ("flush_tiles_kernel", "deferred/flush of"),
    ("flush_tiles_kernel", "deferred/flush over"),
    ("push_kernel", "deferred/flush of"),
    ("plan_kernel", "plan/breakpoint"),
    ("plan_kernel", "plan/best"),
    ("compact_kernel", "compact/token"),
    ("compact_kernel", "compact/head"),
    ("compact_kernel", "compact/pages"),
    ("publish_pages_kernel", "compact/pages"),
    ("compact_kernel", "compact/with scores"),
    ("replays", "graph/replayed"),
    ("compact_kernel", "graph/its time"),
    ("append_kernel", "step/"),
    ("observe_kernel", "step/"),
    ("compact_kernel", "step/"),
    ("copies", "transfer/to device, pitched, 32"),
    ("copies", "transfer/to host, batch, 32"),
    ("copies", "transfer/to host, one each, 32"),
]


# Of cudaGetDeviceCount.
INSUFFICIENT_DRIVER, NO_DEVICE, UNKNOWN = "35", "100", "999"


def run(*command, idle=None, error="0", driver="0"):
    environment = {**os.environ, "LETHE_DEVICE_ERROR": error, "LETHE_DRIVER": driver}
    environment.pop("LETHE_IDLE_PART", None)
    if idle:
        environment["LETHE_IDLE_PART"] = idle
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


class Bench(unittest.TestCase):
    def test_every_row_is_in_the_table_and_in_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "out.json"
            done = run(BENCH, "--quick", "--json", str(file))
            self.assertEqual(done.returncode, 0, done.stderr)
            found = json.loads(file.read_text())
        self.assertEqual(found["case"]["tokens"], 512)
        self.assertGreater(len(found["rows"]), 30)
        for row in found["rows"]:
            self.assertIn(row["name"], done.stdout)
            self.assertIn(row["verdict"], ("met", "missed", "-"))
            self.assertGreater(row["subject"]["median_us"], 0)
            self.assertLessEqual(row["subject"]["min_us"], row["subject"]["median_us"])

    def test_a_device_that_computes_nothing_is_noticed(self):
        for part, row in IDLE:
            with self.subTest(part=part, row=row):
                done = run(BENCH, "--quick", "--filter", row, idle=part)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn("wrong result", done.stderr)
                self.assertIn(row.split(",")[0], done.stderr)

    def test_a_filter_finds_rows_or_says_which_there_are(self):
        done = run(BENCH, "--quick", "--filter", "plan/")
        self.assertEqual(done.returncode, 0)
        self.assertIn("plan/breakpoint", done.stdout)
        self.assertNotIn("observe/", done.stdout)
        done = run(BENCH, "--filter", "nothing of the sort")
        self.assertEqual(done.returncode, 2)
        self.assertIn("plan/breakpoint", done.stderr)

    def test_a_file_that_cannot_be_written_ends_with_one_line(self):
        done = run(BENCH, "--quick", "--json", "/nowhere/out.json")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("/nowhere/out.json", done.stderr)


class Devices(unittest.TestCase):
    def test_without_a_device_or_without_a_driver_programs_are_skipped(self):
        for program in (BENCH, PARITY):
            for error, driver in ((NO_DEVICE, "13000"), (INSUFFICIENT_DRIVER, "0")):
                done = run(program, error=error, driver=driver)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stdout, "skipped: no CUDA device\n")

    def test_a_driver_that_is_too_old_is_named(self):
        for program in (BENCH, PARITY):
            done = run(program, error=INSUFFICIENT_DRIVER, driver="11040")
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertEqual(done.stderr, "cudaGetDeviceCount: cudaErrorInsufficientDriver\n")

    def test_a_device_that_cannot_be_counted_is_none_that_is_missing(self):
        for program in (BENCH, PARITY):
            done = run(program, error=UNKNOWN)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("cudaGetDeviceCount", done.stderr)


class Parity(unittest.TestCase):
    def test_the_quick_mode_finds_everything_the_same(self):
        done = run(PARITY, "--quick")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        lines = done.stdout.splitlines()[1:]
        self.assertGreaterEqual(len(lines), 16)
        for line in lines:
            self.assertRegex(line, "the same, (bit for bit|to rounding)$")

    def test_rounds_that_are_not_replayed_are_noticed(self):
        done = run(PARITY, "--quick", idle="replays")
        self.assertEqual(done.returncode, 1)
        self.assertIn("rounds replayed from a graph: step ", done.stdout)

    def test_arguments(self):
        self.assertEqual(run(PARITY, "--help").returncode, 0)
        wrong = run(PARITY, "--fast")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("usage", wrong.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
