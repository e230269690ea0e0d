#!/usr/bin/env python3
"""Prints median, 95th percentile and longest function, in lines from signature to closing brace.

usage: function_lengths.py [--limit LINES] [--list COUNT] PATH...
With --limit, fails when the 95th percentile is above it.
"""

import argparse
import pathlib
import re
import sys

SUFFIXES = {".hpp", ".cpp", ".cuh", ".cu"}
BLANKED = re.compile(
    r"//[^\n]*|/\*.*?\*/"  # comments
    r'|R"(?P<mark>[^()\s]*)\(.*?\)(?P=mark)"'  # raw strings
    r'|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])*\''  # strings and characters
    r"|^[ \t]*#(?:[^\n\\]|\\\n|\\.)*",  # preprocessor lines
    re.S | re.M,
)
SCOPE = re.compile(r"(?:inline\s+|typedef\s+)*(?:namespace|class|struct|union|enum)\b|extern\s*$")
REQUIRES = re.compile(r"\brequires\s*(\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*$")
MEMBER_INITIALISER = re.compile(r"\)[^:]*:(?!:).*?(?<!\))\b[\w:]+(?:<[^{}]*>)?\s*$", re.S)
ACCESS = re.compile(r"\b(?:public|private|protected)\s*$")
TEMPLATE = re.compile(r"\s*template\s*<")


def blank(text):
    """Replaces what is not code by spaces; line numbers stay."""
    return BLANKED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def closing(text, opening):
    """Index of the brace that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text) - 1


def without_template(head):
    """The declaration after its template<...> heads, and where it begins in `head`."""
    start = 0
    while match := TEMPLATE.match(head, start):
        at, depth = match.end(), 1
        while at < len(head) and depth:
            depth += {"<": 1, ">": -1}.get(head[at], 0)
            at += 1
        start = at
    return start + len(head[start:]) - len(head[start:].lstrip())


def kind_of(head):
    """What a brace after `head` opens: a scope to look into, a function, or neither."""
    declaration = head[without_template(head):]
    if SCOPE.match(declaration):
        return "scope"
    inside_parameters = declaration.count("(") > declaration.count(")")
    if inside_parameters or "(" not in declaration:
        return "skip"
    if declaration.startswith("concept ") or REQUIRES.search(head):
        return "skip"
    return "skip" if MEMBER_INITIALISER.search(declaration) else "function"


def functions(text):
    """Yields (line, length, name) for every function body outside other functions."""
    text = blank(text)
    head_start, at = 0, 0
    while at < len(text):
        character = text[at]
        if character in ";}" or (character == ":" and ACCESS.search(text[head_start:at])):
            head_start = at + 1
        elif character == "{":
            head = text[head_start:at]
            kind = kind_of(head)
            if kind == "scope":
                head_start = at + 1
            else:
                end = closing(text, at)
                if kind == "function":
                    start = head_start + without_template(head)
                    line = text.count("\n", 0, start) + 1
                    yield line, text.count("\n", start, end) + 1, " ".join(text[start:at].split())
                    head_start = end + 1
                at = end
        at += 1


def sources(paths):
    for path in map(pathlib.Path, paths):
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in files if file.suffix in SUFFIXES)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--limit", type=int, help="fail when the 95th percentile is longer")
    parser.add_argument("--list", type=int, default=0, metavar="COUNT", help="print the longest")
    options = parser.parse_args()

    found = [(length, file, line, name) for file in sources(options.paths)
             for line, length, name in functions(file.read_text())]
    if not found:
        sys.exit("no function found in " + " ".join(options.paths))
    found.sort(key=lambda row: -row[0])
    lengths = sorted(row[0] for row in found)
    percentile = lengths[min(len(lengths) - 1, len(lengths) * 95 // 100)]
    print(f"{len(lengths)} functions: median {lengths[len(lengths) // 2]}, "
          f"95% within {percentile}, longest {lengths[-1]} lines")
    too_long = options.limit is not None and percentile > options.limit
    for length, file, line, name in found[: 20 if too_long else options.list]:
        print(f"{length:4} {file}:{line}: {name[:70]}")
    sys.exit(1 if too_long else 0)


if __name__ == "__main__":
    main()
