"""One place after the other at which a process is killed: each on a node that starts from nothing."""

import asyncio
import itertools
import os
import signal
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.localnet import LocalNetwork
from requester.patience import patiently
from shared.ids import TaskKey
from tests.e2e.desk import Desk, until
from tests.faults.chain_records import landed_of
from tests.faults.node import FaultyNode, Process
from tests.faults.points import AT, PASSED
from tests.faults.scenarios import Scenario

SETTLED_WITHIN_S = 240.0
LOOK_EVERY_S = 0.25
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Crash:
    """`point` is where the process (`listener` or `compute`) is killed; None: it is not."""

    process: str
    scenario: Scenario
    point: str | None = None

    def __str__(self) -> str:
        return f"{self.process}, {self.scenario.name}: {self.point or 'not killed'}"


@dataclass
class Outcome:
    crash: Crash
    passed: list[str]
    """The points that the process passed before it was killed."""
    was_killed: bool
    faults: list[str]
    """What was not as it should have been."""


@dataclass
class Lane:
    """One key and one pair of ports. Journal and compute's state are new ones for each run, the chain goes on."""

    net: LocalNetwork
    desk: Desk
    node: FaultyNode
    outputs: Path

    async def run(self, crash: Crash) -> Outcome:
        """Kill once, start what is shipped, and compare chain, journal, compute and storage with what should be."""
        node = self.node
        folder = node.folder / f"run-{next(_numbers)}"
        folder.mkdir()
        victim = node.listener if crash.process == "listener" else node.compute
        node.listener.env["SPLITUP_JOURNAL"] = str(folder / "journal.sqlite")
        if crash.process == "compute" or node.compute.child is None:
            await self._stop(node.compute)
            node.compute.env["SPLITUP_STATE_DIR"] = str(folder / "state")
        for proxy in node.links.rpc:
            proxy.weather.clear()
        before = await self._balance()
        passed = folder / "passed"
        faults: list[str] = []
        pair: TaskKey | None = None
        keeping = asyncio.create_task(self._keep(victim, crash, passed))
        try:
            for process in (node.compute, node.listener):
                if process is not victim and process.child is None:
                    await process.start()
            await until(self._computes, "compute is ready, in one of its lives", SETTLED_WITHIN_S)
            pair = await crash.scenario.begin(self.desk, node)
            await self._settle(folder / "journal.sqlite", pair, keeping)
            faults = await self._faults(crash.scenario, pair, folder / "journal.sqlite", before)
        except Exception as error:  # noqa: BLE001 # it is told with the point that it belongs to
            faults = [f"{type(error).__name__}: {error}", *_ends_of_logs(node)]
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await self._stop(node.listener)
        lines = passed.read_text().splitlines() if passed.exists() else []
        return Outcome(crash, [line for line in lines if line != "killed"], "killed" in lines, faults)

    async def _keep(self, victim: Process, crash: Crash, passed: Path) -> None:
        """The victim's two lives."""
        environment = {PASSED: str(passed)} | ({AT: crash.point} if crash.point else {})
        await victim.start(f"tests.faults.crashing_{crash.process}", **environment)
        assert victim.child is not None
        status = await victim.child.process.wait()
        await victim.close()
        if status != -signal.SIGKILL:
            raise RuntimeError(f"{crash.process} ended with {status} instead of by SIGKILL")
        await victim.start()
        assert victim.child is not None
        raise RuntimeError(f"{crash.process}, started again, ended with {await victim.child.process.wait()}")

    async def _computes(self) -> bool:
        try:
            return (await self.node.http.get(f"{self.node.compute_url}/ready")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def _balance(self) -> int:
        """Of the node. The chain shares the machine with a dozen nodes, and may take long to answer."""
        return await patiently(lambda: self.net.rpc.get_balance(self.node.address), self.desk.session.clock)

    async def _stop(self, process: Process) -> None:
        if process.child is not None:
            await process.kill()

    async def _settle(self, journal: Path, pair: TaskKey, keeping: asyncio.Task[None]) -> None:
        """Until the journal shows an end that owes nothing."""
        give_up = time.monotonic() + SETTLED_WITHIN_S
        while not _is_settled(journal, pair):
            if keeping.done():
                keeping.result()
            if time.monotonic() > give_up:
                raise TimeoutError(f"not settled within {SETTLED_WITHIN_S:.0f} s: {_rows(journal, pair)}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _faults(self, scenario: Scenario, pair: TaskKey, journal: Path, before: int) -> list[str]:
        session = self.desk.session
        execution = await patiently(lambda: session.execution(pair), session.clock)
        compute_says: list[int] = []

        async def answered() -> bool:
            """Compute may have been killed a moment ago, by the last that it did for the task."""
            path = f"/api/task/{pair.execution_id}/{pair.task_id}"
            with suppress(httpx.TransportError):
                compute_says.append((await self.node.http.get(f"{self.node.compute_url}{path}")).status_code)
            return bool(compute_says)

        await until(answered, "compute answers", SETTLED_WITHIN_S)
        signed = 0 if scenario.earned == 0 else 1
        landed = await patiently(lambda: landed_of(self.desk, self.node.address, pair, signed), session.clock)
        stored = [path for path in _files(self.outputs) if pair.execution_id in path.parts]
        found = {
            "the state in the journal": ({state for state, _ in _rows(journal, pair)}, {scenario.state}),
            "the state on the chain": (execution and execution.state, scenario.on_chain),
            "lamports earned": (await self._balance() - before, scenario.earned),
            "the ledger's sum": (_ledger(journal), scenario.earned),
            "objects stored": (len(stored), scenario.objects),
            "compute's answer": (compute_says[-1], 404),
            "transactions of the node": (len(landed), signed),
        }
        return [f"{what}: {is_}, not {should}" for what, (is_, should) in found.items() if is_ != should]


def _files(folder: Path) -> list[Path]:
    """Other lanes' folders may go while this is read, which pathlib takes for an error."""
    return [Path(at, name) for at, _, names in os.walk(folder) for name in names]


def _rows(journal: Path, pair: TaskKey) -> list[tuple[str, str]]:
    """(state, owed) of each attempt, also of those in the history, which owe nothing."""
    sql = """SELECT state, owed FROM tasks WHERE execution_id = ?1 AND task_id = ?2
             UNION ALL SELECT state, 'nothing' FROM history WHERE execution_id = ?1 AND task_id = ?2"""
    return _query(journal, sql, pair.execution_id, pair.task_id)


def _is_settled(journal: Path, pair: TaskKey) -> bool:
    ended = {"paid", "failed", "refused", "cancelled", "missed"}
    rows = _rows(journal, pair)
    return bool(rows) and all(state in ended and owed == "nothing" for state, owed in rows)


def _ledger(journal: Path) -> int:
    ((total,),) = _query(journal, "SELECT coalesce(sum(lamports), 0) FROM ledger")
    return int(total)


def _query(journal: Path, sql: str, *values: object) -> list[tuple]:
    try:
        connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return []  # it was killed before it made the file
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError:
        return []  # or the tables
    finally:
        connection.close()


def _ends_of_logs(node: FaultyNode) -> list[str]:
    logs = [process.log for process in (node.listener, node.compute) if process.log.exists()]
    return [line for log in logs for line in log.read_text().splitlines()[-8:]]
