"""The benchmark's lines run, at sizes that measure nothing: no test depends on how fast anything is."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from bench import cuda
from bench.compute import MODULES
from bench.lines import Goal, Line, save, table
from bench.listener import ALONE
from tests.cuda.device import no_device
from tests.needs import absent


@pytest.mark.timeout(300)  # each starts processes of its own
@pytest.mark.parametrize("module", (*ALONE, *MODULES), ids=lambda module: module.__name__)
async def test_each_line_without_a_chain_runs(module: ModuleType) -> None:
    lines = await module.measure(is_tiny=True)
    if not lines:
        absent(f"{module.__name__} has no line without what its docstring names")
    assert all(line.ours is not None for line in lines)


async def test_a_devices_lines_are_measured_or_say_that_there_is_no_device() -> None:
    lines = await cuda.measure(is_tiny=True)
    assert len(lines) == sum(len(module.LINES) for module in cuda.MODULES)
    if no_device() is None:
        assert all(line.ours is not None for line in lines)
    else:
        assert {line.unit for line in lines} == {"not measured here: no CUDA device"}
        assert {line.ours for line in lines} == {line.met for line in lines} == {None}
        assert "no CUDA device" in table(lines)


def test_a_goal_is_of_our_figure_or_of_its_ratio_to_the_bare_one() -> None:
    line = Line("send", "ms", 12.0, bare=10.0, goal=Goal("ratio", "<=", 1.2))
    assert line.ratio == pytest.approx(1.2) and line.met
    assert Line("send", "ms", 12.1, bare=10.0, goal=Goal("ratio", "<=", 1.2)).met is False
    assert Line("send", "ms", 12.0, goal=Goal("ours", ">=", 12.0)).met
    assert Line("send", "ms", 12.0).met is None


def test_a_chapter_replaces_its_own_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save("listener", [Line("old", "ms", 1.0)], path)
    save("compute", [Line("other", "ms", 2.0)], path)
    save("listener", [Line("new", "ms", 3.0)], path)
    rows = json.loads(path.read_text())
    assert [(row["chapter"], row["line"]) for row in rows] == [("compute", "other"), ("listener", "new")]
    assert set(rows[0]) == {"chapter", "line", "unit", "ours", "bare", "peer", "ratio", "goal", "met"}


def test_what_could_not_be_measured_takes_no_figure_away(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save("cuda", [Line("busy", "not measured here: no CUDA device", None)], path)
    save("cuda", [Line("busy", "of the time", 0.9)], path)
    save("cuda", [Line("busy", "not measured here: no CUDA device", None)], path)
    assert [row["ours"] for row in json.loads(path.read_text())] == [0.9]


def test_the_table_says_why_a_goal_is_not_reached() -> None:
    missed = Line("send", "ms", 9.0, goal=Goal("ours", "<=", 5.0), limit="The disk takes 8 ms.")
    assert "Not reached: send. The disk takes 8 ms." in table([missed])
