#!/usr/bin/env python3
"""Prints which prompts of a workload continue an earlier one, and for how many tokens, as CSV.

What `serving validate --shared-prefixes` reads: requests by their number from 1 on, one row for each
whose prompt begins as an earlier one's does, for --least tokens or more; of the earlier ones it names
the first with which it shares most. Nothing of the prompts' text or tokens is in it.

usage: shared_prefixes.py [--least TOKENS] PROMPTS.jsonl     (one request a line, with input_tok_ids)
"""

import argparse
import itertools
import json
import sys


def shared(one, other):
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other)))


def rows(prompts, least):
    for number, prompt in enumerate(prompts):
        lengths = [shared(prompt, earlier) for earlier in prompts[:number]]
        most = max(lengths, default=0)
        if most >= least:
            yield number + 1, lengths.index(most) + 1, most


def prompts_of(path):
    with open(path, encoding="utf-8") as file:
        for row, line in enumerate(file, 1):
            try:
                yield json.loads(line)["input_tok_ids"]
            except (ValueError, KeyError, TypeError):
                sys.exit(f"shared_prefixes.py: {path}: row {row}: has no input_tok_ids")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--least", type=int, default=16, help="tokens of the smallest engine block")
    parser.add_argument("prompts", help="JSON lines with each request's input_tok_ids")
    options = parser.parse_args()
    try:
        prompts = list(prompts_of(options.prompts))
    except OSError as error:
        sys.exit(f"shared_prefixes.py: {options.prompts}: {error.strerror}")
    print("request,continues,tokens")
    for row in rows(prompts, max(1, options.least)):
        print(",".join(map(str, row)))


if __name__ == "__main__":
    main()
