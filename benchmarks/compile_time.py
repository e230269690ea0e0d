#!/usr/bin/env python3
"""Times the compilation of #include <lethe/lethe.hpp> against four standard headers.

usage: compile_time.py [--compiler CXX] [--turns N]
"""

import argparse
import pathlib
import re
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


def standard_headers():
    """The standard headers that lethe/lethe.hpp includes, itself or through others."""
    standard, reached, pending = set(), set(), ["lethe/lethe.hpp"]
    while pending:
        header = pending.pop()
        if header in reached:
            continue
        reached.add(header)
        text = (ROOT / "include" / header).read_text()
        standard.update(re.findall(r"^#include <(\w+)>", text, re.M))
        pending += re.findall(r'^#include "(lethe/[^"]+)"', text, re.M)
    return sorted(standard)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--turns", type=int, default=11)
    options = parser.parse_args()
    subjects = {
        "the four and <stdexcept>": FLOOR + ["stdexcept"],
        "every standard header that lethe.hpp includes": standard_headers(),
        "lethe/lethe.hpp": ["lethe/lethe.hpp"],
    }
    times = {name: [] for name in ["floor", *subjects]}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.turns):
            times["floor"].append(compile_seconds(options.compiler, folder, FLOOR))
            for name, headers in subjects.items():
                times[name].append(compile_seconds(options.compiler, folder, headers))
    print(f"| {options.compiler} | ms | ratio |\n|---|---:|---:|")
    for name, seconds in times.items():
        ratio = statistics.median(s / f for s, f in zip(seconds, times["floor"]))
        print(f"| {name} | {statistics.median(seconds) * 1e3:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
