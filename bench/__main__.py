"""`python -m bench [CHAPTER …]`: runs the chapters (all without a name), prints their tables, keeps their lines."""

import argparse
import sys

import uvloop

from bench import compute, cuda, listener
from bench.lines import save, table
from bench.machine import machine

CHAPTERS = {"listener": listener.measure, "compute": compute.measure, "cuda": cuda.measure}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("chapters", nargs="*", choices=[[], *CHAPTERS], help="none runs all")
    parser.add_argument("--only", help="lines whose module has this name; nothing is kept")
    parser.add_argument("--tiny", action="store_true", help="sizes that show only that it runs; nothing is kept")
    asked = parser.parse_args()
    for chapter in asked.chapters or CHAPTERS:
        lines = uvloop.run(CHAPTERS[chapter](is_tiny=asked.tiny, only=asked.only))
        print(f"\n{chapter}, on {machine()}\n\n{table(lines)}", flush=True)
        if not asked.tiny and not asked.only:
            save(chapter, lines)
    sys.exit(0)


if __name__ == "__main__":
    main()
