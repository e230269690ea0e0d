#!/usr/bin/env python3
"""Tests scripts/shared_prefixes.py on prompts whose beginnings are known."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "shared_prefixes.py"


def run(lines, *options):
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"".join(line if isinstance(line, bytes) else line.encode() + b"\n"
                            for line in lines))
        file.flush()
        return subprocess.run([sys.executable, SCRIPT, *options, file.name], capture_output=True,
                              text=True, check=False)


class SharedPrefixes(unittest.TestCase):
    def test_names_the_first_request_with_which_most_is_shared(self):
        prompts = [[1, 2, 3, 4], [1, 2, 9], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [7]]
        done = run([json.dumps({"input_tok_ids": prompt}) for prompt in prompts], "--least", "2")
        self.assertEqual(done.stdout, "request,continues,tokens\n2,1,2\n3,1,4\n4,3,5\n")

    def test_leaves_out_what_shares_less(self):
        done = run([json.dumps({"input_tok_ids": list(range(15))})] * 2)
        self.assertEqual(done.stdout, "request,continues,tokens\n")

    def test_refuses_a_row_without_tokens(self):
        for bad in ["{}", '{"input_tok_ids": 3}', '{"input_tok_ids": null}', "[]", "7", "{", b"\xff\n"]:
            with self.subTest(bad):
                done = run(['{"input_tok_ids": [1]}', bad])
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stderr.count("\n"), 1)
                self.assertIn("row 2: has no list input_tok_ids", done.stderr)

    def test_refuses_a_file_that_is_not_there(self):
        done = subprocess.run([sys.executable, SCRIPT, "no/such.jsonl"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no/such.jsonl: No such file", done.stderr)


if __name__ == "__main__":
    unittest.main()
