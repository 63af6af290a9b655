"""Counts the moments at which a process changes something that lasts, and kills the process at one of them.

Part of the entry points crashing_listener.py and crashing_compute.py, not of what is shipped. A point is called by
what happens and how often it has: `before COMMIT INSERT INTO outbox #1`. Each is written down as it is passed, so that
a run that is not killed tells of all points.
"""

import functools
import os
import re
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AT, PASSED = "CRASH_AT", "CRASH_PASSED"
"""Environment: the point to be killed at (none: at none), and the file for the points that were passed."""
_WRITE = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|ALTER)\b|\s*PRAGMA user_version =", re.IGNORECASE
)
SHOWN = 70


class Points:
    def __init__(self) -> None:
        self._at = os.environ.get(AT)
        self._passed = os.open(os.environ[PASSED], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def around(self, *labels: str) -> Iterator[None]:
        """One effect: the first of its labels names it, and each of them may be the one to be killed at."""
        with self._lock:
            self._counts.update(labels)
            names = [f"{label} #{self._counts[label]}" for label in labels]
        self._pass("before", names)
        yield
        self._pass("after", names)

    def _pass(self, moment: str, names: list[str]) -> None:
        with self._lock:
            os.write(self._passed, f"{moment} {names[0]}\n".encode())
            if self._at in [f"{moment} {name}" for name in names]:
                os.write(self._passed, b"killed\n")
                os.kill(os.getpid(), signal.SIGKILL)


def wrap(points: Points, owner: Any, name: str, label: str) -> None:
    """Count each call of this function, which changes something outside, under `label`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def counted(*args: Any, **options: Any) -> Any:
        with points.around(label):
            return original(*args, **options)

    setattr(owner, name, counted)


def count_commits(points: Points) -> None:
    """Every transaction of every SQLite file that is opened from now on.

    A commit is called by its statements, not by its number among the commits: those that wait together are committed
    together, and how many do differs from run to run.
    """

    class Counted(sqlite3.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._written: list[str] = []

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            return self._counted(sql, super().execute, *args)

        def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
            return self._counted(sql, super().executemany, *args)

        def executescript(self, sql: str) -> sqlite3.Cursor:
            with points.around("COMMIT a script"):
                return super().executescript(sql)

        def commit(self) -> None:
            with self._around():
                super().commit()

        def __exit__(self, kind: Any, *exc: Any) -> Any:
            if kind is not None:
                self._written.clear()
                return super().__exit__(kind, *exc)
            with self._around():
                return super().__exit__(kind, *exc)

        def _counted(self, sql: str, run: Any, *args: Any) -> sqlite3.Cursor:
            word = sql.split(None, 1)[0].upper()
            if word == "ROLLBACK":
                self._written.clear()
            if word == "COMMIT":
                with self._around():
                    return run(sql, *args)  # type: ignore[no-any-return]
            if not _WRITE.match(sql):
                return run(sql, *args)  # type: ignore[no-any-return]
            if self.isolation_level is None and not self.in_transaction:
                with points.around(_label(sql)):
                    return run(sql, *args)  # type: ignore[no-any-return]
            self._written.append(_label(sql))
            return run(sql, *args)  # type: ignore[no-any-return]

        @contextmanager
        def _around(self) -> Iterator[None]:
            written, self._written = self._written, []
            if not written:
                yield
                return
            with points.around(*dict.fromkeys(written)):
                yield

    sqlite3.connect = functools.partial(sqlite3.connect, factory=Counted)  # type: ignore[assignment]


def _label(sql: str) -> str:
    return "COMMIT " + " ".join(sql.split())[:SHOWN]
