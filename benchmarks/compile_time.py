#!/usr/bin/env python3
"""Times the compilation of #include <lethe/lethe.hpp> against four standard headers.

usage: compile_time.py [--compiler CXX] [--turns N]
"""

import argparse
import pathlib
import resource
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOOR = ["vector", "span", "algorithm", "concepts"]


def processor_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compile_seconds(compiler, folder, headers):
    source = pathlib.Path(folder) / "includes.cpp"
    source.write_text("".join(f"#include <{header}>\n" for header in headers))
    command = [compiler, "-std=c++20", f"-I{ROOT / 'include'}", "-c", str(source), "-o", "/dev/null"]
    return processor_seconds(command)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--turns", type=int, default=11)
    options = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.turns):
            floor = compile_seconds(options.compiler, folder, FLOOR)
            pairs.append((floor, compile_seconds(options.compiler, folder, ["lethe/lethe.hpp"])))
    floor = statistics.median(pair[0] for pair in pairs)
    lethe = statistics.median(pair[1] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print("| compiler | floor, ms | lethe.hpp, ms | ratio |\n|---|---:|---:|---:|")
    print(f"| {options.compiler} | {floor * 1e3:.0f} | {lethe * 1e3:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
