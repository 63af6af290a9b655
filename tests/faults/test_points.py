"""The points themselves: each is passed once, and a process killed at one of them has done what stands before it."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.points import AT, PASSED

PROGRAM = """
import sqlite3, sys
from tests.faults.points import Points, count_commits
count_commits(Points())
plain = sqlite3.connect(sys.argv[1], isolation_level=None)
plain.executescript("CREATE TABLE one (n)")
for number in range(2):
    plain.execute("BEGIN IMMEDIATE")
    plain.execute("INSERT INTO one VALUES (?)", (number,))
    plain.execute("COMMIT")
plain.execute("BEGIN IMMEDIATE")
plain.execute("INSERT INTO one VALUES (9)")
plain.execute("ROLLBACK")
plain.close()
with sqlite3.connect(sys.argv[1]) as implicit:
    implicit.execute("DELETE FROM one WHERE n = 0")
"""
POINTS = [
    "COMMIT a script #1",
    "COMMIT INSERT INTO one VALUES (?) #1",
    "COMMIT INSERT INTO one VALUES (?) #2",
    "COMMIT DELETE FROM one WHERE n = 0 #1",
]


def run(folder: Path, at: str | None = None) -> tuple[int, list[str], list[int]]:
    """Its exit status, the points that it passed, and what is on the disk."""
    environment = {**os.environ, PASSED: str(folder / "passed")} | ({AT: at} if at else {})
    done = subprocess.run([sys.executable, "-c", PROGRAM, folder / "db"], env=environment, check=False)
    connection = sqlite3.connect(folder / "db")
    try:
        rows = [number for (number,) in connection.execute("SELECT n FROM one ORDER BY n")]
    except sqlite3.OperationalError:
        rows = []
    connection.close()
    return done.returncode, (folder / "passed").read_text().splitlines(), rows


def test_each_commit_is_two_points_and_what_is_rolled_back_is_none(tmp_path: Path) -> None:
    status, passed, rows = run(tmp_path)
    assert (status, rows) == (0, [1])
    assert passed == [f"{moment} {point}" for point in POINTS for moment in ("before", "after")]


@pytest.mark.parametrize(
    ("at", "rows"),
    [
        (f"before {POINTS[0]}", []),
        (f"before {POINTS[1]}", []),
        (f"after {POINTS[1]}", [0]),
        (f"before {POINTS[2]}", [0]),
        (f"before {POINTS[3]}", [0, 1]),
        (f"after {POINTS[3]}", [1]),
    ],
)
def test_what_is_killed_before_a_commit_has_not_written_it(tmp_path: Path, at: str, rows: list[int]) -> None:
    status, passed, written = run(tmp_path, at)
    assert status == -signal.SIGKILL
    assert passed[-2:] == [at, "killed"]
    assert written == rows
