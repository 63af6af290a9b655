"""`python -m bench.listener.counted MODULE`: one of the node's processes, whose commits and fsyncs are written down.

Each is a line of the file that BENCH_SPANS names: what it was, begin and end in seconds by the monotonic clock.
A commit of the journal is one fsync of its write-ahead log.
"""

import os
import runpy
import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

_file = os.open(os.environ["BENCH_SPANS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _timed(name: str, call: Callable[..., Any], *of: Any) -> Any:
    begun_at = time.monotonic()
    try:
        return call(*of)
    finally:
        os.write(_file, f"{name} {begun_at} {time.monotonic()}\n".encode("ascii"))


class CountedConnection(sqlite3.Connection):
    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return super().execute(sql, *values)
        done: sqlite3.Cursor = _timed("commit", super().execute, sql, *values)
        return done


if __name__ == "__main__":
    sqlite3.connect = partial(sqlite3.connect, factory=CountedConnection)
    os.fsync = partial(_timed, "fsync", os.fsync)  # type: ignore[assignment]
    runpy.run_module(sys.argv[1], run_name="__main__")
