"""Each process is killed before and after each of its commits and outside effects; every task ends as it would have.

The points are found by a run that is not killed, for each process and scenario.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from cli.localnet import LocalNetwork
from cli.localnet.requester import requester_session
from cli.localnet.storage import BUCKET, local_storage
from tests.e2e.desk import Desk
from tests.faults.conftest import FULL, Place
from tests.faults.crash_lane import Crash, Lane, Outcome
from tests.faults.node import unstarted_node
from tests.faults.scenarios import MISSED, PAID, SCENARIOS, Scenario

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(10_800 if FULL else 2_700),
    pytest.mark.validator,
]

LANES = int(os.environ.get("FAULTS_LANES", "6"))
"""Runs at once: most of a run is waiting for the chain to be final."""
REPEATS = 100 if FULL else 2
"""What comes again and again whatever the task does is a point so often in one run."""
EVERY = {} if FULL else {"cancelled": 24, "missed": 16, "failed": 12, "paid": 8}
"""Only one point in so many is taken, of those that wait for long the fewest; the seed says which."""
ONLY = os.environ.get("FAULTS_POINTS", "")
"""Points with these words in them, where not all are wanted."""
AGAIN_AND_AGAIN = (
    "INSERT INTO cursor",
    "INSERT INTO page_mark",
    "SET verified_slot",
    "sendTransaction",
    "PRAGMA user_version",
)
CALM = {
    "SPLITUP_BACKFILL_INTERVAL_S": "5",
    "SPLITUP_LIST_INTERVAL_S": "5",
}


@dataclass
class Matrix:
    """Of one process, with storage in folders or in S3."""

    lanes: list[Lane]
    process: str

    async def run(self, crashes: Sequence[Crash]) -> list[Outcome]:
        """Each lane takes the next one; what is not reached is tried once more, since no two runs are quite alike."""
        waiting = list(crashes)
        done: list[Outcome] = []

        async def work(lane: Lane) -> None:
            while waiting:
                crash = waiting.pop(0)
                outcome = await lane.run(crash)
                if crash.point and not outcome.was_killed and not outcome.faults:
                    outcome = await lane.run(crash)
                done.append(outcome)
                if outcome.faults:
                    print(f"{crash}: {outcome.faults}", flush=True)

        async with asyncio.TaskGroup() as group:
            for lane in self.lanes:
                group.create_task(work(lane))
        return done

    async def points(self, scenarios: Sequence[Scenario], seed: str) -> list[Crash]:
        """Of each scenario, in the order in which it passes them."""
        dry = await self.run([Crash(self.process, scenario) for scenario in scenarios])
        assert not [fault for outcome in dry for fault in outcome.faults]
        found = {outcome.crash.scenario.name: outcome.passed for outcome in dry}
        return [
            Crash(self.process, scenario, point)
            for scenario in scenarios
            for point in sampled(found[scenario.name], EVERY.get(scenario.name, 1), seed)
        ]


def sampled(passed: Sequence[str], every: int, seed: str) -> list[str]:
    points = [point for point in dict.fromkeys(passed) if ONLY in point and not _has_come_often(point)]
    return random.Random(seed).sample(points, -(-len(points) // every))


def _has_come_often(point: str) -> bool:
    return any(words in point for words in AGAIN_AND_AGAIN) and int(point.rpartition("#")[2]) > REPEATS


def table(outcomes: Sequence[Outcome]) -> str:
    """Points, runs that were killed, and failures, by process and scenario."""
    lines = [f"{'killed':<10} {'task':<10} {'points':>6} {'killed':>6} {'failed':>6}"]
    for process, name in dict.fromkeys((one.crash.process, one.crash.scenario.name) for one in outcomes):
        rows = [one for one in outcomes if (one.crash.process, one.crash.scenario.name) == (process, name)]
        killed = sum(one.was_killed for one in rows)
        failed = sum(bool(one.faults) for one in rows)
        lines.append(f"{process:<10} {name:<10} {len(rows):>6} {killed:>6} {failed:>6}")
    return "\n".join(lines)


def never_reached(outcomes: Sequence[Outcome]) -> set[str]:
    """What a process does, of which no moment was met in any scenario."""

    def label(outcome: Outcome) -> str:
        return (outcome.crash.point or "").partition(" ")[2].rpartition(" #")[0]

    return {label(one) for one in outcomes} - {label(one) for one in outcomes if one.was_killed}


@asynccontextmanager
async def made_lanes(
    net: LocalNetwork, name: str, seed: str, outputs: Path, count: int
) -> AsyncIterator[list[Lane]]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(requester_session(net))
        desk = Desk(session, net.requester)
        made = [unstarted_node(net, f"{name}-{number}", seed, CALM, endpoints=1) for number in range(count)]
        nodes = [await stack.enter_async_context(node) for node in made]
        yield [Lane(net, desk, node, outputs) for node in nodes]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def on_files(place: Place, fault_seed: str) -> AsyncIterator[list[Lane]]:
    """With storage in folders, where every PUT and DELETE takes several steps."""
    with TemporaryDirectory(prefix="crash-") as folder:
        async with local_storage("file", Path(folder), None) as storage:
            net = replace(place.net, storage=storage)
            async with made_lanes(net, "lane", fault_seed, Path(folder, "outputs"), LANES) as lanes:
                yield lanes


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def on_s3(place: Place, fault_seed: str) -> AsyncIterator[list[Lane]]:
    outputs = place.net.folder / "storage" / BUCKET / "outputs"
    async with made_lanes(place.net, "s3-lane", fault_seed, outputs, LANES) as lanes:
        yield lanes


async def judged(
    matrix: Matrix, scenarios: Sequence[Scenario], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crashes = await matrix.points(scenarios, seed)
    outcomes = await matrix.run(crashes)
    with capsys.disabled():
        print(f"\n{table(outcomes)}")
    assert not [f"{one.crash}: {one.faults}" for one in outcomes if one.faults]
    assert not FULL or not never_reached(outcomes), "of a few points each may come too late once"


async def test_every_task_ends_as_it_would_have_wherever_the_listener_is_killed(
    on_files: list[Lane], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await judged(Matrix(on_files, "listener"), SCENARIOS, seed, capsys)


async def test_every_task_ends_as_it_would_have_wherever_compute_is_killed(
    on_files: list[Lane], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await judged(Matrix(on_files, "compute"), SCENARIOS, seed, capsys)


async def test_the_same_with_objects_in_s3(
    on_s3: list[Lane], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await judged(Matrix(on_s3, "compute"), (MISSED, PAID), seed, capsys)
