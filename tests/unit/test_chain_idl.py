"""The committed IDL, and the same in the older layout, against bytes made by hand."""

import json
import struct
from pathlib import Path

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from listener.chain.idl import Program, TaskAssigned, load_idl
from shared.errors import IdlInvalid, InvalidId
from tests.program.instructions import EXECUTION_ID, TASK_ID, Assignment, Builder, discriminator, string, strings
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

BUILDER = Builder(PROGRAM_ID, REQUESTER, NODE)
PAIR = {"executionId": EXECUTION_ID, "taskId": TASK_ID}
KEYS = {"requester": REQUESTER, "assignedNode": NODE}
OFFSETS = {
    "layout": 8,
    "state": 9,
    "bump": 10,
    "expected_output_count": 11,
    "zero": 12,
    "assigned_node": 16,
    "requester": 48,
    "reward": 80,
    "deadline": 88,
    "refund_at": 96,
    "attempt": 104,
    "compute_units": 112,
}


@pytest.fixture(params=[IDL, older()], ids=["spec 0.1.0", "the layout before"])
def both(request: pytest.FixtureRequest) -> Program:
    return program(request.param)


def snaked(name: str) -> str:
    return {"executionId": "execution_id", "taskId": "task_id", "assignedNode": "assigned_node"}.get(name, name)


def test_offsets_are_those_of_the_protocol_page(both: Program) -> None:
    assert {name: both.offset_of(name) for name in OFFSETS} == OFFSETS
    assert both.offset_of("assignedNode") == 16
    assert both.head_length == 120
    assert both.discriminator == discriminator("account", "Execution")


def test_a_field_behind_the_head_has_no_offset(both: Program) -> None:
    with pytest.raises(IdlInvalid, match="task_id"):
        both.offset_of("task_id")


def test_each_state_has_the_tag_of_the_protocol_page(both: Program) -> None:
    tags = [both.state_tag(state) for state in ("Assigned", "Cancelled", "Failed", "Completed")]
    assert tags == [b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize("name_of", [str, snaked], ids=["camelCase", "snake_case"])
def test_each_instruction_has_the_bytes_that_the_program_reads(both: Program, name_of: type[str]) -> None:
    def encoded(name: str, **args: object) -> Instruction:
        given = {name_of(key): value for key, value in (PAIR | args).items()}
        return both.encode_instruction(name, given, {name_of(key): value for key, value in KEYS.items()})

    assignment = Assignment()
    terms = {
        "model_id": assignment.model_id,
        "inputUris": assignment.input_uris,
        "expected_output_count": 1,
        "deadline": assignment.deadline,
        "computeUnits": assignment.compute_units,
        "reward": assignment.reward,
    }
    uris = ["s3://bucket/out/0.safetensors"]
    assert encoded("assign_task", **terms) == BUILDER.assign_task(assignment)
    assert encoded("cancelExecution", unknown=1) == BUILDER.cancel_execution()
    assert encoded("taskCompleted", attempt=5, outputUris=uris, executionTime=12) == BUILDER.task_completed(5)
    assert encoded("task_failed", attempt=5, errorMessage="no such operator") == BUILDER.task_failed(5)
    assert encoded("reclaim") == BUILDER.reclaim()


def test_an_instruction_is_read_back_by_name(both: Program) -> None:
    read = both.decode_instruction(bytes(BUILDER.task_completed(5).data))
    assert read is not None
    name, args = read
    assert name == "task_completed"
    assert (args["execution_id"], args["attempt"], args["execution_time"]) == (EXECUTION_ID, 5, 12)
    assert args["output_uris"] == ("s3://bucket/out/0.safetensors",)


@pytest.mark.parametrize("wrong", [b"", b"x" * 40, bytes(BUILDER.reclaim().data) + b"\0", bytes(8)])
def test_what_is_no_instruction_of_the_program_is_none(both: Program, wrong: bytes) -> None:
    assert both.decode_instruction(wrong) is None


def test_an_account_is_read_by_the_table_of_the_protocol_page(both: Program) -> None:
    made = ExecutionBytes(state=1, refund_at=DEADLINE + 30)
    values = both.decode_account(bytes(made))
    shared = ("expected_output_count", "assigned_node", "requester", "reward", "deadline", "refund_at", "attempt")
    assert {name: values[name] for name in shared} == {name: getattr(made, name) for name in shared}
    assert (values["state"], values["input_uris"], values["compute_units"]) == ("Cancelled", made.input_uris, 7)
    head = both.decode_head(bytes(made) + b"what follows is not read")
    assert head == {name: values[name] for name in OFFSETS}


def test_an_event_is_read_by_its_fields(both: Program) -> None:
    ids = string(EXECUTION_ID) + string(TASK_ID) + string("model")
    terms = strings(("file:///a", "file:///b")) + struct.pack("<BqQ", 2, -1, 7) + bytes(NODE)
    event = both.decode_event(discriminator("event", "TaskAssigned") + ids + terms)
    assert event == TaskAssigned(EXECUTION_ID, TASK_ID, "model", ("file:///a", "file:///b"), 2, -1, 7, NODE)
    assert both.decode_event(b"another event") is None


def test_the_address_is_the_hash_of_both_ids(both: Program) -> None:
    assert both.execution_address(EXECUTION_ID, TASK_ID) == ADDRESS
    assert both.execution_address("ab", "c") != both.execution_address("a", "bc")
    with pytest.raises(InvalidId):
        both.execution_address("x" * 256, "c")


def test_errors_have_their_names(both: Program) -> None:
    assert both.error_name(6000) == "UnknownInstruction"
    assert both.error_name(1) is None


def test_the_feed_follows_the_node_where_every_instruction_names_it(both: Program) -> None:
    assert both.mentions(NODE) == NODE


@pytest.mark.parametrize("name", ["assign_task", "cancel_execution"])
def test_the_feed_follows_the_program_where_an_instruction_does_not_name_the_node(name: str) -> None:
    without = changed("instructions", name, "accounts", "assigned_node")
    assert program(without).mentions(NODE) == PROGRAM_ID
    assert program(changed("instructions", name)).mentions(NODE) == PROGRAM_ID


def test_stated_discriminators_count() -> None:
    stated = changed("accounts", "Execution", "discriminator", to=[1, 2, 3])
    stated = changed("instructions", "reclaim", "discriminator", to=[4], document=stated)
    loaded = program(stated)
    assert loaded.discriminator == bytes([1, 2, 3])
    assert loaded.offset_of("state") == 4
    assert bytes(loaded.encode_instruction("reclaim", PAIR, KEYS).data)[:1] == b"\4"


def test_accounts_that_the_idl_fixes_need_not_be_given() -> None:
    fixed = {"name": "config", "address": str(Pubkey([5] * 32)), "writable": True}
    accounts = [*IDL["instructions"][3]["accounts"], {"name": "more", "accounts": [fixed]}]
    loaded = program(changed("instructions", "task_completed", "accounts", to=accounts))
    args = PAIR | {"attempt": 1, "output_uris": [], "execution_time": 0}
    built = loaded.encode_instruction("task_completed", args, KEYS)
    assert built.accounts[-1] == AccountMeta(Pubkey([5] * 32), False, True)


@pytest.mark.parametrize(
    ("name", "args", "keys", "told"),
    [
        ("task_refused", {}, KEYS, "no instruction task_refused"),
        ("task_failed", {"attempt": 1}, KEYS, "error_message"),
        ("reclaim", {}, {}, "requester"),
        ("task_failed", {"attempt": -1, "error_message": ""}, KEYS, "do not fit .* attempt"),
        ("task_failed", {"attempt": 2**64, "error_message": ""}, KEYS, "do not fit .* attempt"),
        ("task_failed", {"attempt": 1, "error_message": 5}, KEYS, "do not fit"),
        ("task_failed", {"attempt": 1, "error_message": "\ud800"}, KEYS, "do not fit"),
    ],
)
def test_what_the_idl_asks_for_and_is_not_there_is_named(
    name: str, args: dict[str, object], keys: dict[str, Pubkey], told: str
) -> None:
    with pytest.raises(IdlInvalid, match=told):
        program().encode_instruction(name, PAIR | args, keys)


def test_a_file_that_cannot_be_read_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "idl.json"
    for text in (None, b"{", b"\xff", b"[" * 100_000):
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(IdlInvalid, match=r"idl\.json"):
            load_idl(path, PROGRAM_ID)
    path.write_text(json.dumps(IDL))
    assert load_idl(path, PROGRAM_ID).head_length == 120
