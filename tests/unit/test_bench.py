"""The benchmark's lines run, at sizes that measure nothing: no test depends on how fast anything is."""

import json
import time
from pathlib import Path
from types import ModuleType

import pytest

from bench import cuda
from bench.compute.chapter import MODULES
from bench.compute.link import Link
from bench.compute.s3_peers import Peer, beside
from bench.lines import Goal, Line, save, table
from bench.listener import ALONE
from bench.modules import lines_of
from bench.peers import PEERS, missing_peers
from bench.plot import drawn, goal_of_ratio
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


def test_a_goal_that_is_not_reached_for_no_known_reason_is_told_with_the_figure() -> None:
    slow = Line("read beside slow", "GB/s", 2.0, peer=1.0, goal=Goal("ratio", ">=", 3))
    lost = Line("read beside lost", "GB/s", 2.0, goal=Goal("ratio", ">=", 3))
    told = table([slow, lost, Line("read beside another", "GB/s", 2.0, peer=1.0)]).split("\n\n")[1:]
    assert told == [
        "Not reached: read beside slow. It was 2, the goal is ratio >= 3; what limits it is not known.",
        "Not reached: read beside lost. It was not measured, the goal is ratio >= 3; what limits it is not known.",
    ]


async def test_a_module_that_fails_leaves_a_line_that_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails() -> list[Line]:
        raise RuntimeError("the server\nis gone")

    (line,) = await lines_of(ModuleType("bench.compute.s3_get"), fails)
    assert (line.line, line.ours, line.met) == ("s3_get", None, None)
    assert "| s3_get | not measured: RuntimeError: the server is gone |" in table([line])
    told = capsys.readouterr().err
    assert "s3_get …" in told and "the server is gone" in told


async def test_a_peer_that_fails_is_left_alone_and_told_of_beside_the_others() -> None:
    calls = []

    async def fails() -> None:
        calls.append("once")
        raise OSError("no such host")

    async def moves() -> None:
        pass

    peers = {"slow": Peer(moves), "broken": Peer(fails)}
    for _ in range(3):
        for peer in peers.values():
            await peer()
    ours = Line("S3 to tensor", "GB/s", 2.0, bare=2.1)
    slow, broken = beside(ours, peers, {"slow": 1.0, "broken": 9.0}, {"slow": Goal("ratio", ">=", 3)})
    assert calls == ["once"]
    assert (slow.line, slow.ratio, slow.met) == ("S3 to tensor beside slow", 2.0, False)
    assert broken.ours is None and "no such host" in broken.unit


def test_a_peer_that_is_missing_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.is_installed", lambda module: module != "obstore")
    missing = missing_peers()
    assert missing is not None and "obstore" in missing and "pip install -e '.[bench]'" in missing
    assert "LitServe" not in missing
    monkeypatch.setattr("bench.peers.is_installed", lambda module: module in PEERS)
    assert missing_peers() is None


def test_a_link_carries_no_more_than_its_speed_for_all_together() -> None:
    link = Link(bytes_per_s=1_000_000)
    begun = time.monotonic()
    for _ in range(10):
        link.passed(10_000)
    assert time.monotonic() - begun >= 0.1
    assert link.piece(10**9) < 10**6 and Link(None).piece(10**9) == 10**9


def test_the_picture_has_the_lines_with_a_ratio_and_their_goals() -> None:
    lines = [
        Line("read", "GB/s", 2.0, bare=2.0, goal=Goal("ratio", ">=", 0.9)),
        Line("memory", "MB", 2.0, goal=Goal("ours", "<=", 3)),
        Line("sent", "ms", 2.0, peer=1.0),
    ]
    chapters = drawn([line.as_row(chapter) for chapter in ("listener", "compute") for line in lines])
    assert list(chapters) == ["compute", "listener"]
    assert [row["line"] for row in chapters["compute"]] == ["read", "sent"]
    assert [goal_of_ratio(row) for row in chapters["compute"]] == [(">=", 0.9), None]
    assert goal_of_ratio(lines[1].as_row("compute")) is None
