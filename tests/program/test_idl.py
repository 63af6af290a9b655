"""The IDL says what the program does: names, discriminators, account order and flags, fields, codes."""

import re
from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from program import IDL_PATH
from tests.program.chain import IDL, Chain, build
from tests.program.instructions import HEAD_LENGTH, Assignment, Builder, discriminator
from tests.program.world import World

SOURCES = Path(IDL_PATH).parent.parent / "src"
SIZES = {"u8": 1, "i64": 8, "u64": 8, "pubkey": 32}
NODE, REQUESTER = Pubkey([1] * 32), Pubkey([2] * 32)


def fields(name: str) -> list[dict[str, object]]:
    (found,) = (entry for entry in IDL["types"] if entry["name"] == name)
    listed: list[dict[str, object]] = found["type"]["fields"]
    return listed


def built() -> dict[str, object]:
    pair = Builder(Pubkey.from_string(IDL["address"]), REQUESTER, NODE)
    return {
        "assign_task": pair.assign_task(Assignment()),
        "cancel_execution": pair.cancel_execution(),
        "task_completed": pair.task_completed(1),
        "task_failed": pair.task_failed(1),
        "reclaim": pair.reclaim(),
    }


def test_each_discriminator_is_anchors() -> None:
    for kind, entries in (("global", "instructions"), ("account", "accounts"), ("event", "events")):
        for entry in IDL[entries]:
            assert bytes(entry["discriminator"]) == discriminator(kind, entry["name"])


@pytest.mark.parametrize("entry", IDL["instructions"], ids=lambda entry: entry["name"])
def test_accounts_stand_in_the_order_and_with_the_flags_that_the_program_takes(entry: dict) -> None:
    instruction = built()[entry["name"]]
    keys = {"requester": REQUESTER, "assigned_node": NODE, "system_program": Pubkey.default()}
    for listed, meta in zip(entry["accounts"], instruction.accounts, strict=True):
        assert keys.get(listed["name"], meta.pubkey) == meta.pubkey
        assert listed.get("signer", False) == meta.is_signer
        assert listed.get("writable", False) == meta.is_writable


def test_the_head_has_the_offsets_of_the_protocol_page() -> None:
    offsets, at = {}, 8
    for field in fields("Execution"):
        kind = field["type"]
        if kind == "string":
            break
        offsets[field["name"]] = at
        at += {"state": 1, "zero": 4}.get(str(field["name"])) or SIZES[str(kind)]
    assert at == HEAD_LENGTH
    assert (offsets["state"], offsets["assigned_node"], offsets["requester"]) == (9, 16, 48)
    assert [field["name"] for field in fields("Execution")][-4:] == [
        "execution_id",
        "task_id",
        "model_id",
        "input_uris",
    ]


def test_the_events_have_the_fields_of_the_messages() -> None:
    names = {event["name"]: [field["name"] for field in fields(event["name"])] for event in IDL["events"]}
    assert names == {
        "TaskAssigned": [
            "execution_id",
            "task_id",
            "model_id",
            "input_uris",
            "expected_output_count",
            "deadline",
            "compute_units",
            "assigned_node",
        ],
        "ExecutionCancelled": ["execution_id", "task_id", "assigned_node", "refund_at"],
        "TaskCompleted": ["execution_id", "task_id", "output_uris", "execution_time", "node_address"],
        "TaskFailed": ["execution_id", "task_id", "node_address", "error_message"],
    }


def test_the_errors_are_those_of_the_source() -> None:
    listed, code = {}, 6000
    body = (SOURCES / "error.rs").read_text().split("pub enum Error {")[1].split("\n}")[0]
    for name, number in re.findall(r"^    (\w+)(?: = (\d+))?,", body, re.MULTILINE):
        code = int(number) if number else code
        listed[name] = code
        code += 1
    assert listed == {error["name"]: error["code"] for error in IDL["errors"]}
    assert all(error["msg"] and error["code"] >= 6000 for error in IDL["errors"])


def test_the_rule_of_the_address_is_named() -> None:
    (constant,) = IDL["constants"]
    assert (constant["name"], constant["type"], constant["value"]) == ("EXECUTION_ADDRESS", "string", '"sha256"')


def test_the_program_takes_any_id_that_it_is_deployed_under() -> None:
    world = World(Chain(Pubkey.new_unique()))
    world.assign()
    world.complete()


SYSCALLS = {
    b"sol_get_sysvar",
    b"sol_invoke_signed_c",
    b"sol_log_data",
    b"sol_memcmp_",
    b"sol_memcpy_",
    b"sol_memset_",
    b"sol_sha256",
    b"sol_try_find_program_address",
}


def test_nothing_in_the_build_can_panic_or_allocate() -> None:
    """No path to a panic was left by the compiler: the syscalls that end a program are not even imported."""
    named = set(re.findall(rb"\0((?:sol_|abort|custom_panic)\w*)(?=\0)", build("v0")))
    assert named == SYSCALLS
