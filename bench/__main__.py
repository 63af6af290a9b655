"""`python -m bench [CHAPTER …]`: runs the chapters (all without a name), prints their tables, keeps their lines.

All of them end with the picture, where matplotlib is installed.
"""

import argparse
import sys

import uvloop

from bench import cuda, listener, plot
from bench.compute import chapter as compute
from bench.lines import save, table
from bench.machine import machine
from bench.peers import is_installed, missing_peers

CHAPTERS = {"listener": listener.measure, "compute": compute.measure, "cuda": cuda.measure}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("chapters", nargs="*", choices=[[], *CHAPTERS], help="none runs all")
    parser.add_argument("--only", help="lines whose module has this name; nothing is kept")
    parser.add_argument("--tiny", action="store_true", help="sizes that show only that it runs; nothing is kept")
    asked = parser.parse_args()
    if missing := missing_peers():
        print(missing, file=sys.stderr)
    for chapter in asked.chapters or CHAPTERS:
        lines = uvloop.run(CHAPTERS[chapter](is_tiny=asked.tiny, only=asked.only))
        print(f"\n{chapter}, on {machine()}\n\n{table(lines)}", flush=True)
        if not asked.tiny and not asked.only:
            save(chapter, lines)
    if not (asked.chapters or asked.tiny or asked.only) and is_installed("matplotlib"):
        plot.main()
    sys.exit(0)


if __name__ == "__main__":
    main()
