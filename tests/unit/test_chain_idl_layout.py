"""IDLs of other programs: what may differ, and what is refused with its name."""

from typing import Any

import pytest

from shared.errors import IdlInvalid
from tests.program.instructions import EXECUTION_ID, TASK_ID, discriminator, string
from tests.unit.chain_bytes import IDL, NODE, ExecutionBytes, changed, older, program

FIELDS = ("types", "Execution", "type", "fields")
EVENT_FIELDS = ("types", "ExecutionCancelled", "type", "fields")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("types", "Execution"), "account Execution, but has no type"),
        (("types", "ExecutionState"), "state is of the type ExecutionState"),
        (("events", "TaskAssigned"), "no event TaskAssigned"),
        (("events", "ExecutionCancelled"), "no event ExecutionCancelled"),
        (("types", "TaskFailed"), "event TaskFailed, but has no type"),
        (("instructions", "task_completed"), "no instruction task_completed"),
        ((*EVENT_FIELDS, "assigned_node"), "ExecutionCancelled has no field assigned_node"),
        ((*FIELDS, "attempt", "name"), "no name"),
        ((*FIELDS, "attempt", "type"), "field attempt has a type"),
        (("types", "ExecutionState", "type", "variants", "Failed"), "state of the IDL's Execution"),
    ],
)
def test_what_is_missing_is_named(path: tuple[str, ...], told: str) -> None:
    with pytest.raises(IdlInvalid, match=told):
        program(changed(*path))


@pytest.mark.parametrize(
    ("path", "to", "told"),
    [
        ((*FIELDS, "attempt", "type"), "string", "attempt .* should be an integer, but is a string"),
        ((*FIELDS, "attempt", "type"), "u128", "attempt .* should be an integer"),
        ((*FIELDS, "input_uris", "type"), "string", "input_uris .* should be a list of strings"),
        ((*FIELDS, "refund_at", "type"), {"option": "i64"}, "refund_at .* should be an integer"),
        ((*FIELDS, "layout", "type"), "string", "layout .* should be an integer"),
        ((*EVENT_FIELDS, "refund_at", "type"), "string", "refund_at .* should be an integer"),
        ((*EVENT_FIELDS, "task_id", "type"), "u64", "task_id .* should be a string"),
        ((*FIELDS, "state", "type"), "u8", "state of the IDL's Execution"),
        ((*FIELDS, "zero", "type"), "u256", "zero .* does not read: 'u256'"),
        ((*FIELDS, "zero", "type"), {"array": ["u8", -1]}, "zero"),
        ((*FIELDS, "zero", "type"), {"array": ["u8", 2**64]}, "zero"),
        ((*FIELDS, "zero", "type"), {"coption": "u8"}, "zero"),
        (("accounts", "Execution", "discriminator"), [256], "discriminator of Execution"),
        (("accounts", "Execution", "discriminator"), [], "discriminator of Execution"),
        (("constants", "EXECUTION_ADDRESS", "value"), '"sha512"', "EXECUTION_ADDRESS = sha256"),
        (("types", "Execution", "serialization"), "bytemuck", "Execution is not laid out by borsh"),
        (("types", "Execution", "type", "kind"), "type", "not a struct or an enum"),
        (("types", "ExecutionState", "type", "variants", "Failed", "fields"), ["u8"], "variants that hold fields"),
        (("instructions", "reclaim", "accounts", "execution", "address"), "x", "reclaim, account execution"),
        (("types",), {}, "EXECUTION|no type"),
        (("types",), "x", "types is not a list"),
        (("types",), ["x"], "types is not a JSON object"),
    ],
)
def test_what_is_of_another_kind_is_named(path: tuple[str, ...], to: object, told: str) -> None:
    with pytest.raises(IdlInvalid, match=told):
        program(changed(*path, to=to))


@pytest.mark.parametrize("document", [None, [], "idl", 5])
def test_what_is_no_object_is_no_idl(document: Any) -> None:
    with pytest.raises(IdlInvalid, match="the IDL is not a JSON object"):
        program(document)


def nested(depth: int) -> object:
    kind: object = "u8"
    for _ in range(depth):
        kind = {"vec": kind}
    return kind


@pytest.mark.parametrize("depth", [40, 400, 100_000])
def test_types_that_are_nested_too_deeply_are_refused(depth: int) -> None:
    with pytest.raises(IdlInvalid, match="nested too deeply"):
        program(changed_types({"name": "zero", "type": nested(depth)}))


def changed_types(field: dict[str, object], *types: dict[str, object]) -> dict[str, Any]:
    """The IDL with another field of the account, at the place of `zero`, and more types."""
    document = changed(*FIELDS, "zero", to=field)
    return document | {"types": [*document["types"], *types]}


def test_types_that_hold_themselves_are_refused() -> None:
    loop = {
        "name": "Loop",
        "type": {"kind": "struct", "fields": [{"name": "a", "type": {"vec": {"defined": "Loop"}}}]},
    }
    with pytest.raises(IdlInvalid, match="nested too deeply"):
        program(changed_types({"name": "zero", "type": {"defined": {"name": "Loop"}}}, loop))


@pytest.mark.parametrize("kind", [{"vec": {"defined": "Empty"}}, {"array": [{"vec": {"array": ["u64", 0]}}, 2]}])
def test_lists_whose_entries_take_no_bytes_are_refused(kind: dict[str, object]) -> None:
    empty = {"name": "Empty", "type": {"kind": "struct", "fields": []}}
    with pytest.raises(IdlInvalid, match="field zero is a list whose entries take no bytes"):
        program(changed_types({"name": "zero", "type": kind}, empty))


@pytest.mark.parametrize("name", ["from", "_reserved", "class", "some field", "HTTPPort", "f3"])
def test_fields_that_the_node_does_not_read_may_have_any_name(name: str) -> None:
    loaded = program(changed_types({"name": name, "type": {"array": ["u8", 4]}}))
    values = loaded.decode_account(bytes(ExecutionBytes(attempt=5)))
    assert (values["attempt"], values["execution_id"]) == (5, EXECUTION_ID)


def test_what_the_node_does_not_use_may_be_of_any_type() -> None:
    odd = [{"name": "x", "type": {"generic": "T"}}]
    document = IDL | {
        "instructions": [*IDL["instructions"], {"name": "other", "accounts": [], "args": odd}],
        "types": [*IDL["types"], {"name": "Odd", "type": {"kind": "type", "alias": "u8"}}],
        "events": [*IDL["events"], {"name": "Odd"}],
        "accounts": [*IDL["accounts"], {"name": "Odd"}],
    }
    assert program(document).head_length == 120


def test_nested_structs_and_options_in_the_head_are_read() -> None:
    inner = {
        "name": "Inner",
        "type": {"kind": "struct", "fields": [{"name": "in", "type": {"array": ["u16", 2]}}]},
    }
    loaded = program(changed_types({"name": "zero", "type": {"defined": {"name": "Inner"}}}, inner))
    assert loaded.offset_of("assigned_node") == 16
    assert loaded.decode_account(bytes(ExecutionBytes()))["assigned_node"] == NODE


def test_a_field_of_variable_length_ends_the_head() -> None:
    loaded = program(changed_types({"name": "zero", "type": {"option": "u8"}}))
    assert loaded.head_length == loaded.offset_of("expected_output_count") + 1
    with pytest.raises(IdlInvalid, match="assigned_node"):
        loaded.offset_of("assigned_node")


def test_events_of_the_older_layout_may_leave_out_what_is_optional() -> None:
    shorter = changed("events", "ExecutionCancelled", "fields", 3, document=older())
    shorter = changed("events", "ExecutionCancelled", "fields", 1, document=shorter)
    raw = discriminator("event", "ExecutionCancelled") + string(EXECUTION_ID) + bytes(NODE)
    event = program(shorter).decode_event(raw)
    assert event is not None
    assert (event.execution_id, event.task_id, event.refund_at) == (EXECUTION_ID, None, None)
    assert TASK_ID not in repr(event)
