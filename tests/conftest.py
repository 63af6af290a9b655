"""How Hypothesis draws, and after a run how long each suite (a folder of tests) took, for docs/testing.md."""

import os
from collections import Counter

import pytest
from hypothesis import settings

# The same examples in each run, so that a change is judged by what it changes; FULL=1 draws many others.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("full", max_examples=2_000, deadline=None)
settings.load_profile("full" if os.environ.get("FULL") == "1" else "same")

_seconds: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid.split("/")[1]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("minutes by suite")
    for suite, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"{suite:<12} {seconds / 60:5.1f}")
