#!/usr/bin/env python3
"""Checks that every C++ block in the documentation that names its source is that source, word for word.

A block counts when the line before it reads <!-- FILE#REGION -->; a region lies between two lines
"// [REGION]" in FILE. Usage: check_snippets.py [ROOT]
"""
import pathlib
import re
import sys
import textwrap

BLOCK = re.compile(r"<!-- (\S+)#(\S+) -->\n```cpp\n(.*?)```", re.S)


def region(path: pathlib.Path, name: str) -> str:
    parts = re.split(rf"^[ \t]*// \[{re.escape(name)}\]\n", path.read_text(), flags=re.M)
    if len(parts) != 3:
        raise ValueError(f"{path}: region [{name}] must be opened and closed once")
    return textwrap.dedent(parts[1])


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    checked, wrong = 0, 0
    for page in pages:
        for file, name, text in BLOCK.findall(page.read_text()):
            checked += 1
            if text != region(root / file, name):
                wrong += 1
                print(f"{page.name}: the block {file}#{name} is not what the file says")
    print(f"{checked - wrong} passed, {wrong} failed")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
