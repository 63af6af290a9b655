"""After a run: how long each suite (a folder of tests) took, for the table in docs/testing.md."""

from collections import Counter

import pytest

_seconds: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid.split("/")[1]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("minutes by suite")
    for suite, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"{suite:<12} {seconds / 60:5.1f}")
