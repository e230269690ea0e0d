#!/usr/bin/env python3
"""Tests scripts/gpu.sh as it is carried to a machine with a device, beside programs that stand in."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "gpu.sh"
PROGRAMS = ("gpu_parity", "gpu_move_device_test", "gpu_round_device_test", "gpu_bench")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
BENCH = '[ "$1" = --json ] && echo "{}" > "$2"; echo rows'


class GpuScript(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        shutil.copy(SCRIPT, self.folder / "gpu.sh")
        for program in PROGRAMS:
            self.program(program, BENCH if program == "gpu_bench" else 'echo "$0 $*"')

    def program(self, name, body):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run_script(self, *arguments, tools=False):
        path = "/usr/bin:/bin"
        if tools:
            self.program("tools/compute-sanitizer", 'echo "checked by $2: $*"\nshift 4\nexec "$@"')
            path = f"{self.folder}/tools:{path}"
        return subprocess.run([self.folder / "gpu.sh", *arguments], capture_output=True, text=True,
                              check=False, env={**os.environ, "PATH": path}, cwd=self.folder)

    def test_all_programs_run_and_their_words_are_in_the_log(self):
        done = self.run_script()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        log = (self.folder / "results/gpu.log").read_text()
        places = [log.index(f"== {program}\n") for program in PROGRAMS]
        self.assertEqual(places, sorted(places))
        self.assertIn("compute-sanitizer is not on PATH", log)
        self.assertIn("all passed", log)
        self.assertIn(log, done.stdout)
        self.assertEqual((self.folder / "results/gpu.json").read_text(), "{}\n")

    def test_parity_runs_under_each_tool_in_its_quick_mode(self):
        done = self.run_script("--out", "here", tools=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for tool in TOOLS:
            self.assertIn(f"checked by {tool}: --tool {tool} --error-exitcode 3", done.stdout)
        self.assertEqual(done.stdout.count("gpu_parity --quick"), 2 * len(TOOLS))
        self.assertTrue((self.folder / "here/gpu.json").exists())

    def test_a_program_that_fails_is_named_and_the_others_still_run(self):
        self.program("gpu_move_device_test", "echo broken >&2; exit 3")
        done = self.run_script()
        self.assertEqual(done.returncode, 1)
        self.assertIn("broken\ngpu_move_device_test: exit status 3", done.stdout)
        self.assertIn("\nrows\n", done.stdout)
        self.assertIn("failed: gpu_move_device_test\n", done.stdout)

    def test_what_a_tool_finds_fails(self):
        self.program("tools/compute-sanitizer", '[ "$2" = racecheck ] && exit 3\nexit 0')
        done = subprocess.run([self.folder / "gpu.sh"], capture_output=True, text=True, check=False,
                              env={**os.environ, "PATH": f"{self.folder}/tools:/usr/bin:/bin"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("failed: racecheck\n", done.stdout)

    def test_without_a_device_nothing_else_runs(self):
        self.program("gpu_parity", 'echo "skipped: no CUDA device"')
        done = self.run_script(tools=True)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("gpu_bench", done.stdout)
        self.assertNotIn("checked by", done.stdout)

    def test_rows_of_an_earlier_run_are_not_left_beside_the_log(self):
        rows = self.folder / "results/gpu.json"
        for program, body in (("gpu_bench", "exit 1"), ("gpu_parity", 'echo "skipped: no CUDA device"')):
            rows.parent.mkdir(exist_ok=True)
            rows.write_text("earlier")
            self.program(program, body)
            self.run_script()
            self.assertFalse(rows.exists(), program)

    def test_arguments(self):
        self.assertIn("usage", self.run_script("--help").stdout)
        for wrong in (["--fast"], ["--out"], ["--carry", ""]):
            done = self.run_script(*wrong)
            self.assertEqual(done.returncode, 2)
            self.assertIn("usage", done.stderr)
        done = self.run_script("--carry", "elsewhere")
        self.assertEqual(done.returncode, 2)
        self.assertIn("already", done.stderr)

    def test_a_program_that_is_missing_is_named(self):
        (self.folder / "gpu_bench").unlink()
        done = self.run_script()
        self.assertEqual(done.returncode, 2)
        self.assertIn("gpu_bench is missing", done.stderr)


if __name__ == "__main__":
    unittest.main()
