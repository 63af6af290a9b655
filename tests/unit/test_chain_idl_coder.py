"""Bytes that strangers wrote: read exactly, or refused at once."""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.chain.idl import Event, ExecutionCancelled, TaskCompleted, TaskFailed
from listener.chain.idl_coder import MAX_VALUE_BYTES
from shared.errors import AccountInvalid, EventInvalid
from tests.program.instructions import EXECUTION_ID, TASK_ID, discriminator, string, strings
from tests.unit.chain_bytes import NODE, ExecutionBytes, older, program

PROGRAM, OLDER = program(), program(older())
ACCOUNT = bytes(ExecutionBytes())
IDS = string(EXECUTION_ID) + string(TASK_ID)
CANCELLED = discriminator("event", "ExecutionCancelled") + IDS + bytes(NODE) + struct.pack("<q", 5)
FAILED = discriminator("event", "TaskFailed") + IDS + bytes(NODE) + string("cause")
COMPLETED = (
    discriminator("event", "TaskCompleted") + IDS + strings(("file:///a",)) + struct.pack("<Q", 12) + bytes(NODE)
)
HUGE = b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        (CANCELLED, ExecutionCancelled(EXECUTION_ID, TASK_ID, NODE, 5)),
        (FAILED, TaskFailed(EXECUTION_ID, TASK_ID, NODE, "cause")),
        (COMPLETED, TaskCompleted(EXECUTION_ID, TASK_ID, ("file:///a",), 12, NODE)),
    ],
    ids=["cancelled", "failed", "completed"],
)
def test_each_event_is_read_and_no_shorter_or_longer_one(raw: bytes, event: Event) -> None:
    assert PROGRAM.decode_event(raw) == event
    for length in range(8, len(raw)):
        with pytest.raises(EventInvalid):
            PROGRAM.decode_event(raw[:length])
    for more in (b"\0", b"\0" * 8, raw):
        with pytest.raises(EventInvalid, match=f"the event {type(event).__name__} is not well formed"):
            PROGRAM.decode_event(raw + more)


def test_an_account_is_read_and_no_shorter_or_longer_one() -> None:
    assert PROGRAM.decode_account(ACCOUNT)["task_id"] == TASK_ID
    for length in range(len(ACCOUNT)):
        with pytest.raises(AccountInvalid):
            PROGRAM.decode_account(ACCOUNT[:length])
    for more in (b"\0", b"\0" * 100):
        with pytest.raises(AccountInvalid, match="not one value"):
            PROGRAM.decode_account(ACCOUNT + more)


def test_another_discriminator_is_no_execution() -> None:
    with pytest.raises(AccountInvalid, match="discriminator"):
        PROGRAM.decode_account(bytes(8) + ACCOUNT[8:])
    with pytest.raises(AccountInvalid, match="discriminator"):
        PROGRAM.decode_head(bytes(8) + ACCOUNT[8:120])


def test_a_head_that_is_too_short_is_refused() -> None:
    with pytest.raises(AccountInvalid, match="compute_units"):
        PROGRAM.decode_head(ACCOUNT[:119])


def test_a_state_that_the_idl_does_not_have_is_refused() -> None:
    with pytest.raises(AccountInvalid, match="no variant 4"):
        PROGRAM.decode_account(bytes(ExecutionBytes(state=4)))


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xe9"])
def test_text_that_is_not_utf_8_is_refused(text: bytes) -> None:
    with pytest.raises(AccountInvalid, match="Unicode"):
        PROGRAM.decode_account(bytes(ExecutionBytes(model_id=text)))
    with pytest.raises(EventInvalid, match="Unicode"):
        PROGRAM.decode_event(discriminator("event", "TaskFailed") + IDS + bytes(NODE) + string(text))


@pytest.mark.parametrize("text", ["", "a/b", ".x", "x" * 65, "a\n", "é", "\0"])
def test_ids_that_are_none_make_no_event(text: str) -> None:
    for ids in (string(text) + string(TASK_ID), string(EXECUTION_ID) + string(text)):
        with pytest.raises(EventInvalid, match="is not an id"):
            PROGRAM.decode_event(discriminator("event", "TaskFailed") + ids + bytes(NODE) + string("cause"))


@pytest.mark.parametrize(
    "raw",
    [
        discriminator("event", "TaskFailed") + HUGE,
        discriminator("event", "TaskCompleted") + IDS + HUGE,
        discriminator("event", "TaskCompleted") + IDS + HUGE + bytes(12_000),
        discriminator("event", "TaskCompleted") + IDS + HUGE + bytes(2**20),
    ],
    ids=["text", "list", "list of empty texts", "long list"],
)
def test_a_length_far_above_what_follows_is_refused_at_once(raw: bytes) -> None:
    start = time.process_time()
    with pytest.raises(EventInvalid):
        PROGRAM.decode_event(raw)
    assert time.process_time() - start < 2


def test_a_long_list_of_nothing_is_refused_before_it_is_read() -> None:
    fitting = MAX_VALUE_BYTES + 8 - len(bytes(ExecutionBytes(input_uris=())))
    full = ExecutionBytes(input_uris=("",) * (fitting // 4))
    assert len(PROGRAM.decode_account(bytes(full))["input_uris"]) == fitting // 4
    with pytest.raises(AccountInvalid, match="more than the"):
        PROGRAM.decode_account(bytes(full.but(input_uris=("",) * (fitting // 4 + 1))))


@given(st.binary(max_size=200), st.integers(0, 2**32), st.sampled_from([ACCOUNT, CANCELLED, FAILED, COMPLETED]))
def test_no_bytes_raise_anything_else_and_both_layouts_agree(put: bytes, at: int, whole: bytes) -> None:
    at = 8 + at % (len(whole) - 7)
    for raw in (whole[:at] + put + whole[at:], whole[:at] + put, whole[:at] + put + whole[at + len(put) :]):
        answers = []
        for loaded in (PROGRAM, OLDER):
            for read in (loaded.decode_event, loaded.decode_account, loaded.decode_head):
                try:
                    answers.append(read(raw))
                except (EventInvalid, AccountInvalid) as error:
                    answers.append(type(error))
        assert answers[:3] == answers[3:]
