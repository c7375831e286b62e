#!/usr/bin/env python3
"""Checks that every relative link in the project's Markdown files leads to a file that is there."""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def broken_links(document):
    """The links of one document that lead nowhere, with their line numbers."""
    in_code = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        if in_code:
            continue
        for target in LINK.findall(line):
            path = target.split("#")[0]
            if path and "://" not in path and not path.startswith("mailto:"):
                if not (document.parent / path).exists():
                    yield number, target


def main():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=TOP, check=True, capture_output=True, text=True
    ).stdout
    documents = [TOP / name for name in listed.split("\0") if name and (TOP / name).exists()]
    failures = 0
    for document in documents:
        for number, target in broken_links(document):
            print(f"{document.relative_to(TOP)}:{number}: nothing is at {target}")
            failures += 1
    print(f"{len(documents)} documents, {failures} broken links")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
