"""Execution accounts, judged: each reason for which one is not an assignment to this node."""

from typing import Any

import pytest
from solders.pubkey import Pubkey

from listener.chain.accounts import Execution, ExecutionState, content_hash, decode_execution, verify
from listener.chain.answers import Account
from shared.errors import AccountInvalid
from shared.ids import MAX_COUNT
from tests.program.instructions import EXECUTION_ID, TASK_ID, execution_address
from tests.unit.chain_bytes import (
    ADDRESS,
    DEADLINE,
    IDL,
    NODE,
    PROGRAM_ID,
    REQUESTER,
    ExecutionBytes,
    changed,
    older,
    program,
)

PROGRAM = program()
GOOD = ExecutionBytes()
RENT = 2_000_000
URI = "s3://bucket/tensors/public/x.safetensors"


def verified(made: ExecutionBytes, lamports: int = RENT + GOOD.reward, rent: int = RENT) -> Execution:
    address = execution_address(PROGRAM_ID, str(made.execution_id), str(made.task_id))[0]
    return verify(PROGRAM, made.account(lamports), address, NODE, rent=rent)


@pytest.mark.parametrize("document", [IDL, older()], ids=["spec 0.1.0", "the layout before"])
def test_an_assignment_to_this_node_is_read_whole(document: dict[str, Any]) -> None:
    execution = verify(program(document), GOOD.account(RENT + GOOD.reward), ADDRESS, NODE, rent=RENT)
    assert execution == Execution(
        address=ADDRESS,
        lamports=RENT + GOOD.reward,
        state=ExecutionState.ASSIGNED,
        attempt=1_000,
        assigned_node=NODE,
        requester=REQUESTER,
        reward=1_000_000,
        deadline=DEADLINE,
        refund_at=0,
        compute_units=7,
        expected_output_count=1,
        execution_id=EXECUTION_ID,
        task_id=TASK_ID,
        model_id="f" * 64,
        input_uris=(f"{URI}#0",),
    )


@pytest.mark.parametrize(
    "made",
    [
        GOOD.but(input_uris=(URI,) * 8),
        GOOD.but(expected_output_count=255),
        GOOD.but(reward=0, compute_units=MAX_COUNT, attempt=MAX_COUNT, deadline=0),
        GOOD.but(execution_id="x" * 64, task_id="y" * 64, model_id="z" * 64),
        GOOD.but(input_uris=("file:///root/public/x.safetensors#*",)),
    ],
)
def test_the_limits_themselves_are_allowed(made: ExecutionBytes) -> None:
    assert verified(made).state is ExecutionState.ASSIGNED


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (GOOD.but(assigned_node=REQUESTER, requester=NODE), "assigned to another node"),
        (GOOD.but(layout=2), "layout has the version 2"),
        (GOOD.but(layout=0), "layout has the version 0"),
        (GOOD.but(state=4), "no variant 4"),
        (GOOD.but(execution_id=""), "executionId"),
        (GOOD.but(execution_id="a/b"), "executionId"),
        (GOOD.but(execution_id=".a"), "executionId"),
        (GOOD.but(execution_id="x" * 65), "executionId"),
        (GOOD.but(task_id="../x"), "taskId"),
        (GOOD.but(task_id="a\n"), "taskId"),
        (GOOD.but(model_id="a b"), "modelId"),
        (GOOD.but(input_uris=()), "0 input URIs"),
        (GOOD.but(input_uris=(URI,) * 9), "9 input URIs"),
        (GOOD.but(input_uris=(URI, "http://169.254.169.254/x")), "169"),
        (GOOD.but(input_uris=("file:///a/../b",)), r"\.\."),
        (GOOD.but(input_uris=("s3://bucket/" + "x" * 400,)), "400"),
        (GOOD.but(input_uris=("",)), "'' is not s3"),
        (GOOD.but(expected_output_count=0), "0 outputs"),
        (GOOD.but(reward=MAX_COUNT + 1), "reward"),
        (GOOD.but(compute_units=2**64 - 1), "compute_units"),
        (GOOD.but(attempt=2**64 - 1), "attempt"),
        (GOOD.but(deadline=-1), "deadline"),
        (GOOD.but(deadline=2**63 - 1), "deadline"),
        (GOOD.but(refund_at=-1), "refund_at"),
        (GOOD.but(requester=NODE), "four different keys"),
        (GOOD.but(requester=Pubkey.default()), "four different keys"),
        (GOOD.but(requester=ADDRESS), "four different keys"),
        (GOOD.but(input_uris=(b"\xff",)), "Unicode"),
    ],
)
def test_each_reason_is_told(made: ExecutionBytes, told: str) -> None:
    with pytest.raises(AccountInvalid, match=told):
        verified(made)


def test_an_account_of_another_program_is_none_of_ours() -> None:
    with pytest.raises(AccountInvalid, match=f"owned by {REQUESTER}"):
        verify(PROGRAM, GOOD.account(owner=REQUESTER), ADDRESS, NODE)


@pytest.mark.parametrize("raw", [b"", bytes(8), bytes(GOOD)[:-1], bytes(GOOD) + b"\0", b"\1" + bytes(GOOD)[1:]])
def test_other_bytes_are_no_execution(raw: bytes) -> None:
    with pytest.raises(AccountInvalid):
        verify(PROGRAM, Account(10**9, PROGRAM_ID, raw), ADDRESS, NODE)


def test_the_account_must_lie_where_its_ids_say() -> None:
    elsewhere = execution_address(PROGRAM_ID, EXECUTION_ID, "another")[0]
    with pytest.raises(AccountInvalid, match="address that its ids give"):
        verify(PROGRAM, GOOD.account(), elsewhere, NODE)
    shifted = GOOD.but(execution_id=EXECUTION_ID + TASK_ID[:1], task_id=TASK_ID[1:])
    with pytest.raises(AccountInvalid, match="address that its ids give"):
        verify(PROGRAM, shifted.account(), ADDRESS, NODE)


@pytest.mark.parametrize("state", [0, 1])
def test_a_live_account_must_hold_its_rent_and_its_reward(state: int) -> None:
    made = GOOD.but(state=state)
    assert verified(made, lamports=RENT + GOOD.reward).reward == GOOD.reward
    with pytest.raises(AccountInvalid, match=f"holds {RENT + GOOD.reward - 1} lamports"):
        verified(made, lamports=RENT + GOOD.reward - 1)
    assert verified(made, lamports=GOOD.reward, rent=0).lamports == GOOD.reward
    with pytest.raises(AccountInvalid, match="lamports"):
        verified(made, lamports=GOOD.reward - 1, rent=0)


@pytest.mark.parametrize(("state", "named"), [(2, ExecutionState.FAILED), (3, ExecutionState.COMPLETED)])
def test_one_that_has_ended_has_paid_out(state: int, named: ExecutionState) -> None:
    assert verified(GOOD.but(state=state), lamports=0).state is named


def test_a_program_may_have_states_and_layouts_of_its_own() -> None:
    variants = [{"name": name} for name in ("Draft", "Assigned", "Cancelled", "Failed", "Completed")]
    loaded = program(changed("types", "ExecutionState", "type", "variants", to=variants))
    assert decode_execution(loaded, ADDRESS, GOOD.but(state=1).account()).state is ExecutionState.ASSIGNED
    with pytest.raises(AccountInvalid, match="Draft"):
        decode_execution(loaded, ADDRESS, GOOD.account())
    unversioned = program(changed("types", "Execution", "type", "fields", "layout", "name", to="kept"))
    assert decode_execution(unversioned, ADDRESS, GOOD.but(layout=9).account()).attempt == 1_000


def test_whatever_makes_it_this_work_changes_the_hash_and_nothing_else_does() -> None:
    content = [
        GOOD,
        GOOD.but(execution_id="other"),
        GOOD.but(task_id="other"),
        GOOD.but(model_id="other"),
        GOOD.but(input_uris=(URI,)),
        GOOD.but(input_uris=(f"{URI}#0", f"{URI}#0")),
        GOOD.but(expected_output_count=2),
        GOOD.but(deadline=DEADLINE + 1),
        GOOD.but(compute_units=8),
        GOOD.but(reward=GOOD.reward - 1),
        GOOD.but(requester=Pubkey([5] * 32)),
        GOOD.but(assigned_node=Pubkey([5] * 32)),
    ]
    hashes = [content_hash(decode_execution(PROGRAM, ADDRESS, made.account())) for made in content]
    assert len(set(hashes)) == len(content)
    same = GOOD.but(state=1, refund_at=DEADLINE, attempt=2_000).account(lamports=5)
    assert content_hash(decode_execution(PROGRAM, ADDRESS, same)) == hashes[0]
