"""Websocket messages: whatever comes, the connection is given up or goes on, and no event is made up."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from listener.allowance import Allowance
from listener.chain.event_types import ExecutionCancelled, TaskAssigned
from listener.chain.feed import Notification, follow
from listener.journal.journal import Journal
from listener.mentions import Mentions, OtherWays
from shared.errors import EventInvalid, RpcInvalid
from shared.ids import Slot
from tests.faults.conftest import FULL
from tests.faults.fuzz import Run, anything, broken, transaction_log
from tests.unit.chain_bytes import ADDRESS
from tests.unit.listener_world import NODE, PROGRAM, FixedClock, ScriptedRpc, endpoints_of
from tests.unit.mentions_bytes import FIRST, assigned_event, logs, notification, result_of

INPUTS = 1_000_000 if FULL else 20_000
LIMIT_S = 7_200 if FULL else 300
BATCH = 50
"""Messages for one connection, where none of them ends it."""


class Connection:
    """Brings these messages, then is closed."""

    def __init__(self, messages: list[str | bytes]) -> None:
        self._messages = messages[::-1]

    async def send(self, _message: str) -> None: ...

    async def recv(self) -> str | bytes:
        if not self._messages:
            raise ConnectionClosedError(None, None)
        return self._messages.pop()


class Hearer:
    """Sifts as the node does, and checks what comes through."""

    def __init__(self, mentions: Mentions) -> None:
        self._mentions = mentions
        self.passed: list[Notification] = []
        self.standing = 0
        self.newest = Slot(0)

    def on_standing(self, processed: Slot) -> None:
        self.standing += 1
        assert processed == self.newest

    def on_slot(self, slot: Slot, root: Slot) -> None:
        assert isinstance(slot, int) and self.newest < slot < 2**63 and 0 <= root < 2**63
        self.newest = slot

    def on_logs(self, result: object) -> None:
        told = self._mentions.sift(result)
        if told is not None:
            assert told.err is None
            self.passed.append(told)


class Looks:
    """The accounts that are looked at."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    async def take(self, account: str, *_told: object, **_options: object) -> bool:
        self.taken.add(account)
        return True


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def mentions(journal: Journal, looks: Looks) -> Mentions:
    clock = FixedClock()
    ways = OtherWays(lambda: None, lambda: True, lambda _: False)
    given: Any = looks
    allowance = Allowance(1_000_000, clock)
    endpoints = endpoints_of(ScriptedRpc())
    return Mentions(endpoints, PROGRAM, NODE, journal, given, allowance, ways, clock, random.Random(1))


def answers() -> list[dict[str, Any]]:
    return [{"jsonrpc": "2.0", "id": number, "result": 7} for number in (1, 2)]


def slot_message(slot: int) -> dict[str, Any]:
    result = {"slot": slot, "parent": slot - 1, "root": slot - 32}
    return {"jsonrpc": "2.0", "method": "slotNotification", "params": {"result": result, "subscription": 2}}


def logs_message(told: Notification) -> dict[str, Any]:
    params = {"result": result_of(told), "subscription": 1}
    return {"jsonrpc": "2.0", "method": "logsNotification", "params": params}


def message(rng: random.Random) -> dict[str, Any]:
    match rng.randrange(5):
        case 0:
            return rng.choice(answers())
        case 1:
            return slot_message(rng.randint(100, 10_000))
        case _:
            return logs_message(notification(transaction_log(rng).log))


def garbled(rng: random.Random) -> str | bytes:
    """One message in which something is wrong, or which is none."""
    kind = rng.randrange(6)
    if kind < 3:
        return json.dumps(broken(message(rng), rng))
    if kind == 3:
        return json.dumps(anything(rng))
    raw = bytearray(json.dumps(message(rng)).encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw) + 1)
        raw[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(raw[: rng.randrange(len(raw) + 1)] if kind == 4 else raw)


async def hear(messages: list[str | bytes], hearer: Hearer) -> None:
    """One connection. Only these errors may end it."""
    hearer.newest = Slot(0)
    with pytest.raises((ConnectionClosedError, RpcInvalid)):
        await follow(Connection(messages), NODE, 3_600.0, hearer)


@pytest.mark.timeout(LIMIT_S)
async def test_whatever_comes_the_connection_is_given_up_or_goes_on(journal: Journal, seed: str) -> None:
    rng = random.Random(seed)
    looks = Looks()
    one = mentions(journal, looks)
    hearer = Hearer(one)
    for _ in range(INPUTS):
        await hear([garbled(rng)], hearer)
        for told in hearer.passed:
            await one.on_notification(told)
        hearer.passed.clear()


@pytest.mark.timeout(LIMIT_S)
async def test_of_what_the_chain_wrote_every_event_of_ours_is_looked_at_and_nothing_else(
    journal: Journal, seed: str
) -> None:
    rng = random.Random(seed)
    looks = Looks()
    one = mentions(journal, looks)
    hearer = Hearer(one)
    found = 0
    for _ in range(INPUTS // BATCH):
        runs = [transaction_log(rng) for _ in range(BATCH)]
        told = [
            json.dumps(logs_message(notification(run.log, slot=Slot(number)))) for number, run in enumerate(runs)
        ]
        await hear(
            [json.dumps(answers()[0]), json.dumps(answers()[1]), json.dumps(slot_message(200)), *told], hearer
        )
        assert hearer.standing == 1
        hearer.standing = 0
        looks.taken.clear()
        for passed in hearer.passed:
            if "Log truncated" not in passed.logs and not runs[passed.slot].calls_itself:
                await one.on_notification(passed)
        hearer.passed.clear()
        written = set().union(*(accounts(run) for run in runs))
        assert looks.taken == written
        found += str(ADDRESS) in written
    assert found


def accounts(run: Run) -> set[str]:
    """Of the events of this node that the program wrote into a log that says all."""
    found: set[str] = set()
    for raw in () if "Log truncated" in run.log or run.calls_itself else run.written:
        try:
            event = PROGRAM.decode_event(raw)
        except EventInvalid:
            continue
        if isinstance(event, TaskAssigned | ExecutionCancelled) and event.assigned_node == NODE:
            assert event.task_id is not None
            found.add(str(PROGRAM.execution_address(event.execution_id, event.task_id)))
    return found


async def test_a_well_formed_notification_still_comes_through(journal: Journal) -> None:
    """So that what is seen above is not seen because nothing comes through at all."""
    looks = Looks()
    hearer = Hearer(mentions(journal, looks))
    await hear([json.dumps(logs_message(notification(logs(assigned_event()))))], hearer)
    assert [told.signature for told in hearer.passed] == [FIRST]
