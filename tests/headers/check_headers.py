#!/usr/bin/env python3
"""Checks the public headers: the list in cmake/headers.cmake, the levels, the umbrella, that each
includes the standard headers whose names it uses and no others, and that each compiles alone, twice
in one unit.

usage: check_headers.py {list|levels|umbrella|standard} SOURCE_DIR
       check_headers.py alone SOURCE_DIR COMPILER

alone has all standard headers precompiled, for speed: one that is lacking is found by standard.
"""

import fnmatch
import pathlib
import re
import subprocess
import sys
import tempfile

# The names of namespace std that the headers use, by the header that gives them.
STANDARD = {
    "algorithm": """adjacent_find all_of clamp copy copy_n count count_if equal fill fill_n find
                    find_if_not is_sorted lower_bound max max_element min min_element nth_element
                    partition_point sort transform upper_bound""",
    "array": "array",
    "atomic": "atomic memory_order_acquire memory_order_relaxed memory_order_release",
    "bit": "bit_cast bit_ceil bit_width countl_one countr_one countr_zero popcount",
    "chrono": "chrono",
    "cmath": "ceil exp fabs floor frexp ldexp log nextafter pow sqrt tanh",
    "concepts": "constructible_from convertible_to copyable integral invocable same_as",
    "condition_variable": "condition_variable",
    "cstddef": "byte ptrdiff_t size_t",
    "cstdint": "int16_t int32_t int64_t uint16_t uint32_t uint64_t uint8_t",
    "cstdio": "fprintf",
    "cstdlib": "abort",
    "cstring": "memcpy memmove",
    "ctime": "timespec timespec_get",
    "limits": "numeric_limits",
    "memory": "allocator make_unique_for_overwrite unique_ptr",
    "mutex": "lock_guard mutex unique_lock",
    "numeric": "accumulate iota",
    "optional": "nullopt optional",
    "span": "as_bytes span",
    "stdexcept": "invalid_argument length_error logic_error",
    "string": "string to_string",
    "string_view": "string_view",
    "thread": "thread",
    "type_traits": """conditional_t is_const_v is_copy_assignable_v is_copy_constructible_v
                      is_invocable_v is_same_v is_trivially_copyable_v
                      is_trivially_default_constructible_v remove_cvref_t""",
    "utility": "exchange move",
    "vector": "vector",
}
HEADER_OF = {name: header for header, names in STANDARD.items() for name in names.split()}
MACROS = {"assert": "cassert"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def headers_on_disk(root):
    base = root / "include"
    return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}


def includes(root, header):
    return INCLUDE.findall((root / "include" / header).read_text())


def own_includes(root, header):
    return [name for name in includes(root, header) if name.startswith("lethe/")]


def check_list(root):
    text = (root / "cmake/headers.cmake").read_text()
    listed = re.findall(r"^\s*(lethe/\S+)", text, re.M)
    on_disk = headers_on_disk(root)
    yield from (f"{name}: listed twice" for name in sorted(set(listed)) if listed.count(name) > 1)
    yield from (f"{name}: not in cmake/headers.cmake" for name in sorted(on_disk - set(listed)))
    yield from (f"{name}: listed, but no such file" for name in sorted(set(listed) - on_disk))


def read_levels(root):
    lines = (root / "tests/headers/levels.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return [(tuple(int(part) for part in level.split(".")), name) for level, name in rows]


def level_of(levels, header):
    name = header.removeprefix("lethe/")
    return next((level for level, pattern in levels if fnmatch.fnmatch(name, pattern)), None)


def check_levels(root):
    levels = read_levels(root)
    on_disk = headers_on_disk(root)
    for header in sorted(on_disk):
        level = level_of(levels, header)
        if level is None:
            yield f"{header}: has no level in tests/headers/levels.txt"
            continue
        for name in includes(root, header):
            if not name.startswith("lethe/"):
                if "/" in name or "." in name:
                    yield f"{header}: includes {name}, which is not the standard library"
                continue
            other = level_of(levels, name)
            if name not in on_disk:
                yield f"{header}: includes {name}, which does not exist"
            elif other is None or other >= level:
                yield f"{header} (level {level}) includes {name} (level {other})"


def check_umbrella(root):
    """lethe/policies/ and lethe/layerkv/ are included by name, so that nobody else compiles them."""
    on_disk = headers_on_disk(root)
    reached, pending = set(), ["lethe/lethe.hpp"]
    pending += [header for header in on_disk
                if header.startswith(("lethe/policies/", "lethe/layerkv/"))]
    while pending:
        header = pending.pop()
        if header in on_disk - reached:
            reached.add(header)
            pending += own_includes(root, header)
    for header in sorted(on_disk - reached):
        yield f"{header}: not reached from lethe/lethe.hpp"


def used_names(text):
    """Names of namespace std, and macros of standard headers, outside comments and strings."""
    code = re.sub(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"', "", text)
    macros = {name for name in MACROS if re.search(rf"(?<![\w:]){name}\(", code)}
    return set(re.findall(r"\bstd::(\w+)", code)) | macros


def check_standard(root):
    for header in sorted(headers_on_disk(root)):
        names = used_names((root / "include" / header).read_text())
        homes = HEADER_OF | MACROS
        yield from (f"{header}: std::{name} is not in check_headers.py's STANDARD"
                    for name in sorted(names - homes.keys()))
        needed = {homes[name] for name in names & homes.keys()}
        included = {name for name in includes(root, header) if not name.startswith("lethe/")}
        yield from (f"{header}: lacks <{name}>" for name in sorted(needed - included))
        yield from (f"{header}: does not use <{name}>" for name in sorted(included - needed))


def precompile(root, command, folder):
    """Options that have the standard headers of all headers at hand."""
    names = {name for header in headers_on_disk(root) for name in includes(root, header)}
    standard = folder / "standard.hpp"
    standard.write_text("".join(f"#include <{name}>\n" for name in sorted(names) if "/" not in name))
    target = folder / "standard.hpp.gch"
    subprocess.run([*command, "-x", "c++-header", str(standard), "-o", str(target)], check=True)
    return ["-include", str(standard)]


def check_alone(root, compiler):
    command = [compiler, "-std=c++20", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    with tempfile.TemporaryDirectory() as folder:
        command += [*precompile(root, command, pathlib.Path(folder)), "-fsyntax-only", "-I", str(root / "include"), "-x", "c++", "-"]
        for header in sorted(headers_on_disk(root)):
            unit = f"#include <{header}>\n" * 2
            compiled = subprocess.run(command, input=unit, text=True, stderr=subprocess.PIPE)
            if compiled.returncode != 0:
                yield f"{header} does not compile alone:\n{compiled.stderr}"


def main():
    checks = {"list": check_list, "levels": check_levels, "umbrella": check_umbrella,
              "standard": check_standard, "alone": check_alone}
    name, *arguments = sys.argv[1:] or [""]
    if name not in checks or len(arguments) != (2 if name == "alone" else 1):
        sys.exit(__doc__)
    problems = list(checks[name](pathlib.Path(arguments[0]), *arguments[1:]))
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
