"""The IDL says what the program does: names, discriminators, account order and flags, fields, codes."""

import re
import struct
from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from program import IDL_PATH
from tests.program.chain import ERROR_NAMES, IDL, NOW, SLOT, Chain
from tests.program.instructions import EXECUTION_ID, HEAD_LENGTH, TASK_ID, Assignment, Builder, discriminator
from tests.program.world import NOTICE_S, World

SOURCES = Path(IDL_PATH).parent.parent / "src"
PAGE = SOURCES.parent.parent / "docs" / "program.md"
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


def test_the_page_of_the_program_lists_each_error_within_its_range_of_codes() -> None:
    rows = re.findall(r"^\| (\d{4}) to (\d{4}) \|.*\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    ranges = [(range(int(first), int(last) + 1), re.findall(r"[A-Z]\w+", names)) for first, last, names in rows]
    listed = {code: name for codes, names in ranges for code, name in zip(codes, names, strict=True)}
    assert listed == ERROR_NAMES


def test_the_rule_of_the_address_is_named() -> None:
    (constant,) = IDL["constants"]
    assert (constant["name"], constant["type"], constant["value"]) == ("EXECUTION_ADDRESS", "string", '"sha256"')


def test_the_program_takes_any_id_that_it_is_deployed_under() -> None:
    world = World(Chain(Pubkey.new_unique()))
    world.assign()
    world.complete()


def decoded(kind: object, raw: bytes) -> tuple[object, bytes]:
    """The value of this IDL type that the bytes begin with, and what follows it."""
    match kind:
        case "string":
            (length,) = struct.unpack_from("<I", raw)
            assert len(raw) >= 4 + length
            return raw[4 : 4 + length].decode(), raw[4 + length :]
        case "pubkey":
            return Pubkey(raw[:32]), raw[32:]
        case str():
            layout = {"u8": "<B", "i64": "<q", "u64": "<Q"}[kind]
            return struct.unpack_from(layout, raw)[0], raw[struct.calcsize(layout) :]
        case {"array": ["u8", int(length)]}:
            return raw[:length], raw[length:]
        case {"vec": each}:
            (count,), raw = struct.unpack_from("<I", raw), raw[4:]
            listed = []
            for _ in range(count):
                one, raw = decoded(each, raw)
                listed.append(one)
            return tuple(listed), raw
        case {"defined": {"name": name}}:
            (entry,) = (entry for entry in IDL["types"] if entry["name"] == name)
            return entry["type"]["variants"][raw[0]]["name"], raw[1:]
    raise AssertionError(kind)


def decoded_fields(listed: list[dict[str, object]], raw: bytes) -> dict[str, object]:
    """Every field in turn; nothing may be left."""
    values = {}
    for field in listed:
        values[str(field["name"])], raw = decoded(field["type"], raw)
    assert raw == b""
    return values


PAIR = {"execution_id": EXECUTION_ID, "task_id": TASK_ID}
TERMS = Assignment(input_uris=("s3://b/k", "file:///p#*"), expected_output_count=3, compute_units=2**53 - 1)
OUTPUTS = ("s3://b/0", "s3://b/1", "s3://b/2")


def test_the_account_reads_by_the_idl() -> None:
    world = World(assignment=TERMS)
    world.assign()
    world.cancel()
    values = decoded_fields(fields("Execution"), bytes(world.account.data)[8:])
    assert values == {
        **vars(TERMS),
        "layout": 1,
        "state": "Cancelled",
        "bump": world.pair.bump,
        "zero": bytes(4),
        "assigned_node": world.node.pubkey(),
        "requester": world.requester.pubkey(),
        "refund_at": NOW + NOTICE_S,
        "attempt": SLOT,
    }


def test_the_arguments_of_each_instruction_read_by_the_idl() -> None:
    pair = Builder(Pubkey.from_string(IDL["address"]), REQUESTER, NODE)
    sent = {
        "assign_task": (pair.assign_task(TERMS), vars(TERMS)),
        "cancel_execution": (pair.cancel_execution(), PAIR),
        "task_completed": (
            pair.task_completed(7, OUTPUTS, 12),
            {**PAIR, "attempt": 7, "output_uris": OUTPUTS, "execution_time": 12},
        ),
        "task_failed": (pair.task_failed(7, "é"), {**PAIR, "attempt": 7, "error_message": "é"}),
        "reclaim": (pair.reclaim(), PAIR),
    }
    for entry in IDL["instructions"]:
        instruction, arguments = sent.pop(entry["name"])
        assert decoded_fields(entry["args"], bytes(instruction.data)[8:]) == arguments
    assert not sent


def test_each_event_reads_by_the_idl() -> None:
    world = World(assignment=TERMS)
    node = world.node.pubkey()
    assigned = world.chain.accepted(world.pair.assign_task(TERMS), world.requester)
    cancelled = world.chain.accepted(world.pair.cancel_execution(), world.requester)
    failed = world.chain.accepted(world.pair.task_failed(SLOT, "é"), world.node)
    world.chain.pass_time(1)
    world.assign()
    completed = world.chain.accepted(world.pair.task_completed(world.head.attempt, OUTPUTS, 12), world.node)
    content = {name: value for name, value in vars(TERMS).items() if name != "reward"}
    expected = {
        "TaskAssigned": (assigned, {**content, "assigned_node": node}),
        "ExecutionCancelled": (cancelled, {**PAIR, "assigned_node": node, "refund_at": NOW + NOTICE_S}),
        "TaskFailed": (failed, {**PAIR, "node_address": node, "error_message": "é"}),
        "TaskCompleted": (
            completed,
            {**PAIR, "output_uris": OUTPUTS, "execution_time": 12, "node_address": node},
        ),
    }
    for entry in IDL["events"]:
        outcome, values = expected.pop(entry["name"])
        (event,) = outcome.events
        assert event[:8] == bytes(entry["discriminator"])
        assert decoded_fields(fields(entry["name"]), event[8:]) == values
    assert not expected
