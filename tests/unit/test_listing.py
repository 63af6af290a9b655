"""The listing of live accounts: which are read, in which order, and what counts as a refusal to list them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from solders.pubkey import Pubkey

from listener.chain.accounts import ExecutionHead, ExecutionState
from listener.heads import rank, unserved
from listener.journal.journal import Journal
from listener.journal.states import State
from listener.listing import PASSING, Listing
from listener.rules import MAX_DEADLINE_S, Rules
from shared.errors import ChainError, RpcRefused, RpcUnavailable
from shared.ids import Attempt, Lamports, UnixSeconds
from tests.program.instructions import execution_address
from tests.unit.chain_bytes import PROGRAM_ID, REQUESTER, ExecutionBytes
from tests.unit.journal_rows import NOW
from tests.unit.listener_world import ACCOUNT, NODE, OURS, PROGRAM, ScriptedRpc, World, endpoints_of
from tests.unit.test_rules import RULES, rules

REFUSED = RpcRefused("getProgramAccounts is not served here", -32601)
BLOCKING = rules(blocklist=frozenset({str(REQUESTER)}))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


def listing(world: World, *rpcs: ScriptedRpc, by: Rules = RULES) -> Listing:
    endpoints = endpoints_of(*rpcs) if rpcs else world.endpoints
    return Listing(endpoints, PROGRAM, NODE, world.looks, world.steps, by, world.chain_clock.now)


def shows(world: World, *accounts: ExecutionBytes) -> list[str]:
    """The chain holds these; their addresses."""
    found = {execution_address(PROGRAM_ID, one.execution_id, one.task_id)[0]: one for one in accounts}
    world.rpc.accounts = {address: one.account() for address, one in found.items()}
    return [str(address) for address in found]


def looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The accounts whose look begins, in their order."""
    order: list[str] = []
    take = world.looks.take

    async def noted(account: str, *told: Any, **options: Any) -> bool:
        order.append(account)
        return await take(account, *told, **options)

    monkeypatch.setattr(world.looks, "take", noted)
    return order


async def test_what_is_worth_it_and_ends_soonest_is_read_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, cheap, later, soon, dear = shows(
        world,
        OURS.but(task_id="late", deadline=NOW + 5),
        OURS.but(task_id="cheap", reward=1),
        OURS.but(task_id="later", deadline=NOW + 900),
        OURS.but(task_id="soon", deadline=NOW + 300),
        OURS.but(task_id="dear", deadline=NOW + 900, reward=2_000_000),
    )
    order = looked_at(world, monkeypatch)
    assert await listing(world).run()
    assert order == [soon, dear, later, cheap, late]
    assert await world.journal.counts() == {State.ACCEPTED: 3, State.COMPUTED: 1, State.MISSED: 1}


async def test_who_is_not_served_is_recorded_by_the_head_and_not_read(world: World) -> None:
    one = listing(world, by=BLOCKING)
    for _ in range(2):
        await one.run()
    assert world.rpc.asked["get_account confirmed"] == 0
    assert await world.journal.knows(ACCOUNT, Attempt(1_000))
    (refusal,) = await world.journal.refusals(5)
    assert (refusal.reason, refusal.requester, refusal.count) == ("RequesterBlocked", str(REQUESTER), 1)


async def test_where_one_of_its_tasks_is_open_the_account_is_read_all_the_same(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    world.shows(OURS.but(attempt=1_500))
    await listing(world, by=BLOCKING).run()
    assert (await world.journal.task(task.id)).attempt == 1_500


def head(**changed: object) -> ExecutionHead:
    values: dict[str, object] = {
        "address": Pubkey([7] * 32),
        "lamports": Lamports(5),
        "state": ExecutionState.ASSIGNED,
        "attempt": Attempt(100),
        "assigned_node": NODE,
        "requester": REQUESTER,
        "reward": Lamports(1_000_000),
        "deadline": UnixSeconds(NOW + 600),
        "refund_at": UnixSeconds(0),
        "compute_units": 1,
        "expected_output_count": 1,
    }
    return ExecutionHead(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("by", "changed", "why"),
    [
        (RULES, {}, None),
        (BLOCKING, {}, "RequesterBlocked"),
        (rules(allowlist=frozenset({"another"})), {}, "RequesterNotAllowed"),
        (RULES, {"deadline": NOW + MAX_DEADLINE_S + 1}, "DeadlineTooFar"),
    ],
)
def test_who_is_refused_without_a_word_is_told_by_the_head(
    by: Rules, changed: dict[str, object], why: str | None
) -> None:
    assert unserved(head(**changed), by, NOW) == why


def test_a_notice_that_ends_soon_is_late() -> None:
    ending = head(state=ExecutionState.CANCELLED, refund_at=UnixSeconds(NOW + 5))
    assert rank(head(), RULES, NOW) < rank(ending, RULES, NOW)


@pytest.mark.parametrize("code", sorted(PASSING))
async def test_an_error_that_passes_is_no_refusal(world: World, code: int) -> None:
    world.rpc.faults["get_program_accounts"] = [RpcRefused("internal error", code)]
    one = listing(world)
    with pytest.raises(RpcUnavailable):
        await one.run()
    assert one.refused is None


async def test_where_one_endpoint_refuses_another_is_asked(world: World) -> None:
    refusing = ScriptedRpc()
    refusing.faults["get_program_accounts"] = [REFUSED]
    one = listing(world, refusing, world.rpc)
    assert await one.run() and one.refused is None
    assert (await world.task()).state is State.ACCEPTED


async def test_where_one_refuses_and_the_other_is_away_it_is_refused_for_now(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    away = ScriptedRpc()
    away.faults["get_program_accounts"] = [RpcUnavailable("503")] * 2
    world.rpc.faults["get_program_accounts"] = [REFUSED] * 2
    one = listing(world, away, world.rpc)
    for _ in range(2):
        assert not await one.run()
    assert one.refused is not None and len(caplog.records) <= 3
    assert await one.run()
    assert one.refused is None


async def test_our_own_tasks_are_looked_at_also_where_nothing_is_listed(world: World) -> None:
    await world.taken(State.COMPUTING)
    world.shows(None)
    world.rpc.faults["get_program_accounts"] = [REFUSED]
    assert not await listing(world).run()
    assert (await world.task()).state is State.CANCELLED


async def test_where_nobody_answers_nothing_is_looked_at(world: World) -> None:
    await world.taken(State.COMPUTING)
    world.rpc.faults["get_program_accounts"] = [RpcUnavailable("503")]
    with pytest.raises(ChainError):
        await listing(world).run()
    assert world.rpc.asked["get_account confirmed"] == 0
