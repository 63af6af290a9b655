"""Where accounts lie by IDLs that state seeds, or nothing."""

from typing import Any

import pytest
from solders.pubkey import Pubkey

from listener.chain.accounts import verify
from shared.errors import AccountInvalid, IdlInvalid
from tests.program.instructions import EXECUTION_ID, TASK_ID
from tests.unit.chain_bytes import IDL, NODE, PROGRAM_ID, REQUESTER, ExecutionBytes, changed, program
from tests.unit.listener_world import OURS
from tests.unit.other_idls import account, arg, const, with_seeds, without_rule

KNOWN = {"execution_id": "short", "task_id": "task", "requester": REQUESTER, "assigned_node": NODE, "deadline": -2}


def found(*seeds: bytes) -> Pubkey:
    return Pubkey.find_program_address(list(seeds), PROGRAM_ID)[0]


@pytest.mark.parametrize(
    ("seeds", "raws"),
    [
        ([const("run"), arg("execution_id"), arg("task_id")], [b"run", b"short", b"task"]),
        ([const("run"), arg("executionId")], [b"run", b"short"]),
        ([account("requester"), arg("task_id")], [bytes(REQUESTER), b"task"]),
        ([account("authority"), account("assigned_node")], [bytes(REQUESTER), bytes(NODE)]),
        ([const("run"), arg("deadline")], [b"run", (-2).to_bytes(8, "little", signed=True)]),
        ([{"kind": "const", "type": "string", "value": "run"}], [b"run"]),
    ],
    ids=["ids", "camelCase", "a key", "two keys", "a number", "the layout before"],
)
def test_the_address_is_that_of_the_seeds(seeds: list[dict[str, Any]], raws: list[bytes]) -> None:
    assert program(with_seeds(*seeds)).address_of(KNOWN) == found(*raws)


@pytest.mark.parametrize(
    "seeds",
    [
        [const("run"), arg("execution_id")],
        [const("run"), arg("nonce")],
        [const("run"), account("config")],
        [const("run"), arg("input_uris")],
        [const("run"), account("execution.requester")],
        [const("run"), {"kind": "const", "value": [256]}],
        [const("run"), {"kind": "other"}],
        [const("run")] * 16,
        [],
    ],
)
def test_seeds_that_cannot_be_worked_out_give_no_address(seeds: list[dict[str, Any]]) -> None:
    known = KNOWN | {"execution_id": "x" * 33}
    assert program(with_seeds(*seeds)).address_of(known) is None


def test_seeds_of_an_address_of_another_program_give_none() -> None:
    other = with_seeds(const("run"), program={"kind": "const", "value": list(bytes(NODE))})
    assert program(other).address_of(KNOWN) is None


def test_where_only_the_completion_states_seeds_these_count() -> None:
    seeds = [const("run"), arg("task_id")]
    assert program(with_seeds(*seeds, of="task_completed")).address_of(KNOWN) == found(b"run", b"task")


def test_the_constant_is_asked_before_the_seeds() -> None:
    both = with_seeds(const("run")) | {"constants": IDL["constants"]}
    ids = {"execution_id": EXECUTION_ID, "task_id": TASK_ID}
    assert program(both).address_of(ids) == program().address_of(ids) != found(b"run")


def test_a_rule_that_the_node_does_not_know_is_refused() -> None:
    with pytest.raises(IdlInvalid, match="sha512"):
        program(changed("constants", "EXECUTION_ADDRESS", "value", to='"sha512"'))


def test_without_a_rule_the_account_must_be_given_and_is_taken_as_it_is() -> None:
    loaded = program(without_rule())
    args = {"execution_id": EXECUTION_ID, "task_id": TASK_ID, "attempt": 1, "error_message": "no"}
    keys = {"assigned_node": NODE}
    with pytest.raises(IdlInvalid, match="account execution"):
        loaded.encode_instruction("task_failed", args, keys)
    with pytest.raises(IdlInvalid, match="does not say at which address"):
        loaded.execution_address(EXECUTION_ID, TASK_ID)
    built = loaded.encode_instruction("task_failed", args, keys | {"execution": found(b"run")})
    assert built.accounts[0].pubkey == found(b"run")


def test_a_described_account_must_lie_where_the_seeds_of_its_own_fields_give() -> None:
    loaded = program(with_seeds(account("requester"), arg("task_id")))
    made = ExecutionBytes(assigned_node=OURS.assigned_node)
    right = found(bytes(REQUESTER), TASK_ID.encode())
    assert verify(loaded, made.account(), right, OURS.assigned_node).address == right
    with pytest.raises(AccountInvalid, match="does not lie"):
        verify(loaded, made.account(), found(b"elsewhere"), OURS.assigned_node)
