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


def refuse(path, reason):
    print(f"shared_prefixes.py: {path}: {reason}", file=sys.stderr)
    sys.exit(2)


def prompts_of(path):
    # By bytes: a row that is not UTF-8 is one that is no JSON.
    with open(path, "rb") as file:
        for row, line in enumerate(file, 1):
            try:
                tokens = json.loads(line)["input_tok_ids"]
            except (ValueError, KeyError, TypeError, RecursionError):
                tokens = None
            if not isinstance(tokens, list):
                refuse(path, f"row {row}: has no list input_tok_ids")
            yield tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--least", type=int, default=16, help="tokens of the smallest engine block")
    parser.add_argument("prompts", help="JSON lines with each request's input_tok_ids")
    options = parser.parse_args()
    try:
        prompts = list(prompts_of(options.prompts))
    except OSError as error:
        refuse(options.prompts, error.strerror)
    print("request,continues,tokens")
    for row in rows(prompts, max(1, options.least)):
        print(",".join(map(str, row)))


if __name__ == "__main__":
    main()
