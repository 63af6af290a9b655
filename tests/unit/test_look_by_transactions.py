"""Where the IDL does not describe the account: what its transactions say, and what says nothing."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.accounts import ExecutionState
from listener.chain.agreement import Agreement
from listener.chain.answers import Commitment, TransactionError, TransactionRead
from listener.chain.idl import Program
from listener.journal.changes import Insert
from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.journal.states import State
from listener.look import NO_NOTICE, View
from listener.look_by_transactions import FORKED_SLOTS, TransactionLook
from shared.errors import IdlInvalid, RpcInvalid, RpcRefused, RpcUnavailable
from shared.ids import Slot
from tests.program.instructions import EXECUTION_ID
from tests.unit.chain_bytes import ADDRESS, IDL, PROGRAM_ID, changed, older, program
from tests.unit.journal_rows import NOW
from tests.unit.listener_world import ACCOUNT, NODE, OURS, World, endpoints_of, sighted
from tests.unit.mentions_bytes import assigned_event, cancelled_execution_event, logs
from tests.unit.other_idls import Document, without_account, without_rule
from tests.unit.other_transactions import (
    ASSIGN,
    BUILDER,
    CANCEL,
    CANCELLED,
    COMPLETE,
    FAIL,
    RECLAIM,
    REQUESTER,
    STRANGER,
    TERMS,
    History,
    assign,
    cancel_of_whole_execution,
    signed,
    with_keys,
)

PROGRAM = program(without_account())
REFUSED = TransactionError("instruction 0 failed with InsufficientFunds", 0)
ACCOUNTS = ("instructions", "assign_task", "accounts")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


class Seen:
    """A world with a program, its history, and looks at the account."""

    def __init__(self, journal: Journal, of: Program = PROGRAM) -> None:
        self.world = World(journal, of)
        self.rpc = self.world.rpc
        self.history = History(self.rpc)

    async def at(self, at_least: int = 0, commitment: Commitment = "confirmed") -> View:
        return await self.world.look.at(ACCOUNT, Slot(at_least), commitment, is_new=True)

    async def state(self) -> ExecutionState | None:
        view = await self.at()
        return None if view.sighting is None else view.sighting.state

    async def state_to_a_node_that_has_read_nothing(self) -> ExecutionState | None:
        self.world.look = TransactionLook(
            Agreement(endpoints_of(self.rpc), self.world.clock), PROGRAM, NODE, self.world.journal
        )
        return await self.state()


@pytest.fixture
def seen(journal: Journal) -> Seen:
    return Seen(journal)


def of_idl(journal: Journal, document: Document) -> Seen:
    return Seen(journal, program(document))


async def test_the_transaction_that_assigned_it_stands_in_for_the_account(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN)
    view = await seen.at(1000)
    assert view.sighting is not None and view.slot == 1000
    taken = view.sighting.assignment
    assert view.sighting.state is ExecutionState.ASSIGNED
    assert (taken.attempt, taken.requester, taken.reward) == (1000, str(REQUESTER.pubkey()), 1_000_000)
    assert (taken.execution_id, taken.input_uris, taken.deadline) == (EXECUTION_ID, OURS.input_uris, OURS.deadline)
    assert (taken.account, taken.output_count, taken.compute_units) == (ACCOUNT, 1, 7)
    assert seen.rpc.asked["get_account confirmed"] == 0


async def test_the_layout_of_idls_before_spec_0_1_0_does_as_well(journal: Journal) -> None:
    seen = of_idl(journal, older(without_account()))
    seen.history.add(1000, ASSIGN)
    assert await seen.state() is ExecutionState.ASSIGNED
    seen.history.add(1500, CANCEL, lines=CANCELLED)
    assert await seen.state() is ExecutionState.CANCELLED


@pytest.mark.parametrize(
    ("then", "state"),
    [
        (CANCEL, ExecutionState.CANCELLED),
        (COMPLETE, ExecutionState.COMPLETED),
        (FAIL, ExecutionState.FAILED),
        (RECLAIM, None),
    ],
    ids=["cancelled", "completed", "failed", "reclaimed"],
)
async def test_the_newest_instruction_on_the_account_says_what_became_of_it(
    seen: Seen, then: Instruction, state: ExecutionState | None
) -> None:
    seen.history.add(1000, ASSIGN)
    seen.history.add(1500, then, lines=CANCELLED)
    assert await seen.state() is state
    seen.history.add(1600, ASSIGN)
    view = await seen.at()
    assert view.sighting is not None
    assert (view.sighting.state, view.sighting.assignment.attempt) == (ExecutionState.ASSIGNED, 1600)


async def test_what_one_transaction_does_last_counts(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN, CANCEL)
    assert await seen.state() is ExecutionState.CANCELLED


async def test_the_notice_of_a_cancellation_is_what_its_event_says(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN)
    seen.history.add(1500, CANCEL, lines=CANCELLED)
    view = await seen.at()
    assert view.sighting is not None and view.sighting.assignment.refund_at == OURS.deadline - 570


async def test_a_cancellation_without_a_time_takes_effect_at_once(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN)
    seen.history.add(1500, CANCEL, lines=logs())
    view = await seen.at()
    assert view.sighting is not None
    assert view.sighting.assignment.refund_at == view.sighting.assignment.end == NO_NOTICE


async def test_an_instruction_that_another_program_calls_counts(seen: Seen) -> None:
    seen.history.add_inner(1000, ASSIGN)
    assert await seen.state() is ExecutionState.ASSIGNED


def _failed(read: TransactionRead) -> TransactionRead:
    return dataclasses.replace(read, err=REFUSED)


def _unreadable(read: TransactionRead) -> TransactionRead:
    return dataclasses.replace(read, raw=read.raw[:-1])


def _not_signed(read: TransactionRead) -> TransactionRead:
    """The signature is of another message: the last letter of the taskId is another one."""
    return dataclasses.replace(read, raw=read.raw[:-1] + bytes([read.raw[-1] ^ 1]))


def _another_one(read: TransactionRead) -> TransactionRead:
    return dataclasses.replace(read, raw=bytes(signed(CANCEL, slot=1501, payer=REQUESTER)))


@pytest.mark.parametrize("wrong", [_failed, _unreadable, _not_signed, _another_one])
async def test_a_transaction_that_proves_nothing_is_passed_over(
    seen: Seen, wrong: Callable[[TransactionRead], TransactionRead]
) -> None:
    seen.history.add(1000, ASSIGN)
    row = seen.history.add(1500, CANCEL, lines=CANCELLED)
    right = seen.rpc.transactions[row.signature]
    seen.rpc.transactions[row.signature] = wrong(right)
    assert await seen.state() is ExecutionState.ASSIGNED
    seen.rpc.transactions[row.signature] = right
    assert await seen.state_to_a_node_that_has_read_nothing() is ExecutionState.CANCELLED


async def test_an_instruction_of_another_program_says_nothing(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN)
    seen.history.add(1500, Instruction(STRANGER.pubkey(), bytes(CANCEL.data), CANCEL.accounts))
    assert await seen.state() is ExecutionState.ASSIGNED


@pytest.mark.parametrize("error", [RpcInvalid("version 7"), RpcRefused("version 7", -32015)])
async def test_a_transaction_that_the_endpoint_cannot_give_is_passed_over(seen: Seen, error: Exception) -> None:
    seen.history.add(1000, ASSIGN)
    seen.history.add(1500, CANCEL)
    seen.rpc.faults["get_transaction"] = [error]
    assert await seen.state() is ExecutionState.ASSIGNED


async def test_where_the_endpoint_cannot_give_what_may_be_the_assignment_nothing_is_concluded(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN)
    seen.rpc.faults["get_transaction"] = [RpcRefused("not in the ledger", -32004)]
    with pytest.raises(RpcRefused):
        await seen.at()
    assert await seen.state() is ExecutionState.ASSIGNED


async def test_a_transaction_that_is_listed_and_not_there_yet_is_waited_for(seen: Seen) -> None:
    row = seen.history.add(1000, ASSIGN)
    read = seen.rpc.transactions.pop(row.signature)
    with pytest.raises(RpcUnavailable):
        await seen.at()
    seen.rpc.transactions[row.signature] = read
    assert await seen.state() is ExecutionState.ASSIGNED


async def test_a_transaction_is_read_once_however_often_the_account_is_looked_at(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN)
    for slot in range(1001, 1006):
        seen.history.add(slot, with_keys(CANCEL, AccountMeta(ADDRESS, False, False)), payer=STRANGER)
    await seen.at()
    asked = seen.rpc.asked["get_transaction"]
    await seen.at(1005)
    assert seen.rpc.asked["get_transaction"] == asked <= 6


async def test_a_list_that_does_not_show_yet_what_was_seen_is_not_believed(seen: Seen) -> None:
    seen.rpc.finalized_slot = 999
    with pytest.raises(RpcUnavailable):
        await seen.at(1000)
    seen.history.add(1000, ASSIGN)
    with pytest.raises(RpcUnavailable):
        await seen.at(1001)
    assert (await seen.at(1000)).sighting is not None


async def test_what_a_fork_took_back_is_gone_once_that_is_final(seen: Seen) -> None:
    seen.rpc.finalized_slot = 1000 + FORKED_SLOTS
    with pytest.raises(RpcUnavailable):
        await seen.at(1000)
    seen.rpc.finalized_slot += 1
    view = await seen.at(1000)
    assert view.sighting is None and view.slot == 1001


async def test_at_finalized_only_what_is_listed_as_finalized_counts(seen: Seen) -> None:
    row = seen.history.add(1000, ASSIGN)
    with pytest.raises(RpcUnavailable):
        await seen.at(1000, "finalized")
    seen.rpc.finalized_rows.append(row)
    assert (await seen.at(1000, "finalized")).sighting is not None


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"input_uris": ("http://elsewhere",)}, "is not s3://"),
        ({"expected_output_count": 0}, "outputs are expected"),
        ({"reward": 2**60}, "reward"),
        ({"model_id": "../x"}, "modelId"),
    ],
)
async def test_an_assignment_beyond_the_reference_programs_limits_is_none(
    seen: Seen, terms: dict[str, Any], why: str
) -> None:
    seen.history.add(1000, assign(**terms), lines=logs())
    view = await seen.at()
    assert view.sighting is None and why in view.why


async def test_an_assignment_to_another_node_is_none_of_ours(seen: Seen) -> None:
    other = dataclasses.replace(BUILDER, node=STRANGER.pubkey())
    seen.history.add(1000, with_keys(ASSIGN, *other.assign_task(TERMS).accounts), lines=logs())
    view = await seen.at()
    assert view.sighting is None and "another node" in view.why


async def test_an_account_that_lies_elsewhere_than_the_rule_says_is_none(journal: Journal) -> None:
    elsewhere = with_keys(ASSIGN, AccountMeta(Pubkey([7] * 32), False, True), *ASSIGN.accounts[1:])
    for document, is_seen in ((without_account(), False), (without_account(without_rule()), True)):
        seen = of_idl(journal, document)
        seen.history.add(1000, elsewhere)
        view = await seen.world.look.at(str(Pubkey([7] * 32)), Slot(0), "confirmed", is_new=True)
        assert (view.sighting is not None) is is_seen


async def test_who_signs_as_authority_is_the_requester(journal: Journal) -> None:
    seen = of_idl(journal, changed(*ACCOUNTS, "requester", "name", to="authority", document=without_account()))
    seen.history.add(1000, ASSIGN, payer=STRANGER)
    view = await seen.at()
    assert view.sighting is not None and view.sighting.assignment.requester == str(REQUESTER.pubkey())


async def test_without_a_signer_of_that_name_who_paid_the_fee_is_the_requester(journal: Journal) -> None:
    seen = of_idl(journal, changed(*ACCOUNTS, "requester", "signer", document=without_account()))
    seen.history.add(1000, ASSIGN, payer=STRANGER)
    view = await seen.at()
    assert view.sighting is not None and view.sighting.assignment.requester == str(STRANGER.pubkey())


async def test_nobody_is_the_requester_who_is_named_as_one_and_has_not_signed(seen: Seen) -> None:
    metas = [ASSIGN.accounts[0], AccountMeta(REQUESTER.pubkey(), False, True), *ASSIGN.accounts[2:]]
    seen.history.add(1000, with_keys(ASSIGN, *metas), payer=STRANGER)
    view = await seen.at()
    assert view.sighting is None and "has not signed" in view.why


async def test_without_a_reward_among_the_arguments_it_is_nothing(journal: Journal) -> None:
    seen = of_idl(journal, changed("instructions", "assign_task", "args", "reward", document=without_account()))
    seen.history.add(1000, Instruction(PROGRAM_ID, bytes(ASSIGN.data)[:-8], ASSIGN.accounts))
    view = await seen.at()
    assert view.sighting is not None and view.sighting.assignment.reward == 0


async def test_what_the_instruction_leaves_out_is_read_from_its_event(journal: Journal) -> None:
    document = without_account()
    for name in ("model_id", "deadline"):
        document = changed("instructions", "assign_task", "args", name, document=document)
    seen = of_idl(journal, document)
    args = {name: getattr(TERMS, name) for name in ("execution_id", "task_id", "input_uris")}
    args |= {"expected_output_count": 1, "compute_units": 7, "reward": 5}
    call = program(document).encode_instruction(
        "assign_task", args, {"requester": REQUESTER.pubkey(), "assigned_node": NODE, "execution": ADDRESS}
    )
    seen.history.add(1000, call)
    view = await seen.at()
    assert view.sighting is not None
    assert (view.sighting.assignment.deadline, view.sighting.assignment.reward) == (OURS.deadline, 5)
    seen.history.add(1100, call, lines=logs(assigned_event(task_id="another")))
    view = await seen.at()
    assert view.sighting is None and "model_id, deadline" in view.why


async def test_a_cancellation_of_the_whole_execution_stops_its_tasks_though_it_names_another_account(
    journal: Journal,
) -> None:
    document = changed("instructions", "cancel_execution", "args", "task_id", document=without_account())
    fields = ("types", "ExecutionCancelled", "type", "fields")
    for name in ("task_id", "refund_at"):
        document = changed(*fields, name, document=document)
    seen = of_idl(journal, document)
    seen.history.add(1000, ASSIGN)
    view = await seen.at()
    assert view.sighting is not None
    await journal.apply(Insert(view.sighting.assignment, State.ACCEPTED))
    lines = logs(cancelled_execution_event())
    other = seen.history.add(
        1400, cancel_of_whole_execution("another", STRANGER.pubkey()), lines=lines, is_listed=False
    )
    await seen.world.looks.take(ACCOUNT, other.slot, (_told(other.signature, other.slot),))
    assert await seen.state() is ExecutionState.ASSIGNED
    row = seen.history.add(
        1500, cancel_of_whole_execution(EXECUTION_ID, STRANGER.pubkey()), lines=lines, is_listed=False
    )
    await seen.world.looks.take(ACCOUNT, row.slot, (_told(row.signature, row.slot),))
    task = await seen.world.reaches(State.CANCELLING)
    assert task.end == NO_NOTICE
    assert await seen.state() is ExecutionState.CANCELLED  # by the journal's events, also after a restart
    seen.rpc.transactions[row.signature] = None
    assert await seen.state() is ExecutionState.ASSIGNED  # a fork took it back


def _told(signature: Signature, slot: Slot) -> EventRow:
    return EventRow(str(signature), 0, slot, "ExecutionCancelled", ACCOUNT)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("instructions", "assign_task"), "no instruction assign_task"),
        ((*ACCOUNTS, "execution"), "names an account execution"),
    ],
)
def test_without_accounts_the_idl_must_say_how_a_task_is_assigned(path: tuple[str, ...], told: str) -> None:
    with pytest.raises(IdlInvalid, match=told):
        program(changed(*path, document=without_account()))


def test_an_argument_of_another_kind_than_the_events_is_named() -> None:
    path = ("instructions", "assign_task", "args", "deadline", "type")
    with pytest.raises(IdlInvalid, match="deadline of the IDL's assign_task should be an integer"):
        program(changed(*path, to="string", document=without_account()))
    assert program(changed(*path, to="string")).by_transactions is None


@pytest.mark.parametrize("name", ["state", "attempt", "requester", "reward", "input_uris"])
def test_an_account_that_lacks_a_field_which_the_node_needs_is_as_good_as_none(name: str) -> None:
    loaded = program(changed("types", "Execution", "type", "fields", name))
    assert loaded.by_transactions == f"the IDL's Execution has no field {name}"
    with pytest.raises(IdlInvalid, match=name):
        loaded.decode_account(bytes(OURS))


def test_an_idl_that_describes_the_account_is_gone_by_the_account() -> None:
    assert program(IDL).by_transactions is None
    assert program(without_rule()).by_transactions is None
    assert program(without_account()).by_transactions == "the IDL describes no account Execution"


async def test_an_assignment_is_taken_in_by_its_event(seen: Seen) -> None:
    seen.history.add(1000, ASSIGN)
    row = seen.rpc.rows[0]
    told = EventRow(str(row.signature), 0, row.slot, "TaskAssigned", ACCOUNT)
    assert await seen.world.looks.take(ACCOUNT, row.slot, (told,))
    assert (await seen.world.reaches(State.ACCEPTED)).attempt == 1000


def test_a_described_account_that_is_cancelled_without_a_time_is_so_at_once() -> None:
    assert sighted(OURS.but(state=1, refund_at=0)).assignment.end == NO_NOTICE
    assert sighted(OURS.but(state=1, refund_at=NOW + 30)).assignment.end == NOW + 30
