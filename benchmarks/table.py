#!/usr/bin/env python3
"""Prints the ratios in Google Benchmark's JSON files as a Markdown table.

usage: table.py FILE.json...
Runs of one name are repetitions: their medians are shown, and the range of the ratio.
"""

import json
import statistics
import sys


def read_runs(paths):
    runs = {}
    for path in paths:
        with open(path) as file:
            for run in json.load(file)["benchmarks"]:
                if run["run_type"] == "iteration":
                    runs.setdefault(run["name"].split("/iterations")[0], []).append(run)
    return runs


def row(name, runs):
    middle = {key: statistics.median(run[key] for run in runs)
              for key in ("floor_ns", "lethe_ns", "ratio")}
    ratios = [run["ratio"] for run in runs]
    return (f"| {name} | {middle['floor_ns']:,.0f} | {middle['lethe_ns']:,.0f} "
            f"| {middle['ratio']:.2f} | {min(ratios):.2f} to {max(ratios):.2f} |")


def main():
    print("| what | floor, ns | lethe, ns | ratio | range |\n|---|---:|---:|---:|---:|")
    for name, runs in read_runs(sys.argv[1:]).items():
        print(row(name, runs))


if __name__ == "__main__":
    main()
