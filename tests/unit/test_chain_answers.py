"""Single answers, and the JSON values that they are made of."""

import base64
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain import answers, base58, json_values
from listener.chain.answers import InnerInstruction, SignatureRow, Status, TransactionError
from shared.errors import RpcInvalid

KEY, LOADED = Pubkey([1] * 32), Pubkey([2] * 32)
SIGNATURE = Signature(bytes([3] * 64))
INNER = {"programIdIndex": 1, "accounts": [0, 2], "data": base58.encode(b"call"), "stackHeight": 2}
META: dict[str, Any] = {
    "err": None,
    "logMessages": ["Program log: x"],
    "innerInstructions": [{"index": 0, "instructions": [INNER]}],
    "loadedAddresses": {"writable": [str(KEY)], "readonly": [str(LOADED)]},
}
TRANSACTION: dict[str, Any] = {"slot": 5, "blockTime": 9, "transaction": ["cmF3", "base64"], "meta": META}


def with_meta(**changed: object) -> dict[str, Any]:
    return TRANSACTION | {"meta": META | changed}


def test_a_transaction_is_read() -> None:
    read = answers.transaction(TRANSACTION)
    assert (read.slot, read.raw, read.err, read.block_time) == (5, b"raw", None, 9)
    assert read.logs == ("Program log: x",)
    assert read.loaded_addresses == (KEY, LOADED)
    assert read.inner == {0: (InnerInstruction(1, (0, 2), b"call", 2),)}


def test_what_a_provider_may_leave_out_is_left_out() -> None:
    bare = answers.transaction({"slot": 5, "transaction": ["cmF3", "base64"], "meta": {"err": None}})
    assert (bare.logs, bare.inner, bare.loaded_addresses, bare.block_time) == ((), {}, (), None)
    without_height = answers.transaction(
        with_meta(innerInstructions=[{"index": 3, "instructions": [INNER | {"stackHeight": None}]}])
    )
    assert without_height.inner[3][0].stack_height is None


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        TRANSACTION | {"slot": None},
        TRANSACTION | {"meta": None},
        TRANSACTION | {"transaction": "raw"},
        TRANSACTION | {"transaction": ["cmF3", "base64", "x"]},
        TRANSACTION | {"blockTime": "now"},
        TRANSACTION | {"meta": {name: value for name, value in META.items() if name != "err"}},
        with_meta(err=5),
        with_meta(logMessages=[5]),
        with_meta(logMessages="x"),
        with_meta(loadedAddresses=[]),
        with_meta(loadedAddresses={"writable": []}),
        with_meta(loadedAddresses={"writable": ["x"], "readonly": []}),
        with_meta(innerInstructions={"index": 0}),
        with_meta(innerInstructions=[{"index": 256, "instructions": []}]),
        with_meta(innerInstructions=[{"index": 0, "instructions": [INNER | {"programIdIndex": -1}]}]),
        with_meta(innerInstructions=[{"index": 0, "instructions": [INNER | {"accounts": [256]}]}]),
        with_meta(innerInstructions=[{"index": 0, "instructions": [INNER | {"data": "0"}]}]),
        with_meta(innerInstructions=[{"index": 0, "instructions": [INNER | {"stackHeight": "2"}]}]),
        with_meta(innerInstructions=[{"index": 0, "instructions": [INNER] * 65}]),
        with_meta(innerInstructions=[{"index": at, "instructions": [INNER]} for at in range(65)]),
    ],
)
def test_a_transaction_of_another_kind_is_invalid(wrong: object) -> None:
    with pytest.raises(RpcInvalid):
        answers.transaction(wrong)


@pytest.mark.parametrize(
    ("err", "wanted"),
    [
        (None, None),
        ("AccountNotFound", TransactionError("AccountNotFound")),
        (
            {"InsufficientFundsForRent": {"account_index": 0}},
            TransactionError("InsufficientFundsForRent", account=0),
        ),
        (
            {"InstructionError": [2, {"Custom": 6042}]},
            TransactionError("instruction 2 failed with custom error 6042", 2, 6042),
        ),
        (
            {"InstructionError": [0, "InvalidAccountData"]},
            TransactionError("instruction 0 failed with InvalidAccountData", 0),
        ),
        (
            {"InstructionError": [1, {"BorshIoError": "Unknown"}]},
            TransactionError("instruction 1 failed with BorshIoError", 1),
        ),
        ({"InstructionError": [1, {"Custom": 2**32}]}, TransactionError("instruction 1 failed with Custom", 1)),
        ({"InstructionError": [10**30, "X"]}, TransactionError("InstructionError")),
        ({"InstructionError": "X"}, TransactionError("InstructionError")),
        ({}, TransactionError("an error without a name")),
    ],
)
def test_each_form_of_an_error_is_read(err: object, wanted: TransactionError | None) -> None:
    assert answers.transaction_error(err) == wanted


@pytest.mark.parametrize("err", [0, False, 1.5, [], ["AccountNotFound"], {"InstructionError": [0, 5]}])
def test_an_error_of_another_kind_is_invalid(err: object) -> None:
    with pytest.raises(RpcInvalid):
        answers.transaction_error(err)


@pytest.mark.parametrize("name", ["\ud800", "\x1b[2J", "x" * 10**6, "a\nb"])
def test_what_an_error_says_can_be_stored_and_shown(name: str) -> None:
    for err in (name, {name: 1}, {"InstructionError": [0, name]}, {"InstructionError": [0, {name: 1}]}):
        read = answers.transaction_error(err)
        assert read is not None
        assert read.text.isascii() and read.text.isprintable() and len(read.text) < 200


def test_statuses_and_rows_are_read() -> None:
    told = {"slot": 5, "err": None, "confirmations": None, "confirmationStatus": "finalized"}
    assert answers.status(None) is None
    assert answers.status(told) == Status(5, None, "finalized")
    for commitment in ("processed", "confirmed"):
        read = answers.status(told | {"confirmationStatus": commitment, "err": "AccountInUse"})
        assert read == Status(5, TransactionError("AccountInUse"), commitment)
    row = answers.signature_row({"signature": str(SIGNATURE), "slot": 5, "err": None, "memo": None})
    assert row == SignatureRow(SIGNATURE, 5, None)


@pytest.mark.parametrize(
    "wrong", [{"slot": 5, "confirmationStatus": "finalized"}, {"slot": 5, "err": None}, [], 5]
)
def test_a_status_that_leaves_out_what_counts_is_invalid(wrong: object) -> None:
    with pytest.raises(RpcInvalid):
        answers.status(wrong)


def test_a_long_base58_text_is_refused_before_it_is_read() -> None:
    start = time.process_time()
    with pytest.raises(RpcInvalid):
        json_values.base58_bytes("z" * 10**6, "data")
    assert time.process_time() - start < 5  # and not the minutes that it would take
    assert json_values.base58_bytes(base58.encode(b"\xff" * 10_240), "data") == b"\xff" * 10_240


@given(st.binary(max_size=80))
def test_base58_is_that_of_the_keys(raw: bytes) -> None:
    assert base58.decode(base58.encode(raw)) == raw
    if len(raw) >= 32:
        assert base58.encode(raw[:32]) == str(Pubkey(raw[:32]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(META) + sorted(TRANSACTION)), inner),
    max_leaves=20,
)
READERS = [
    answers.account,
    answers.status,
    answers.signature_row,
    answers.transaction,
    answers.transaction_error,
    *(
        lambda value, reader=reader: reader(value, "it")
        for reader in (
            answers.commitment,
            json_values.integer,
            json_values.text,
            json_values.sequence,
            json_values.slot,
            json_values.pubkey,
            json_values.signature,
            json_values.block_hash,
            json_values.base64_bytes,
            json_values.base58_bytes,
            json_values.context_slot,
            json_values.log_lines,
        )
    ),
]


@given(JSON)
def test_no_json_raises_anything_else(value: object) -> None:
    for reader in READERS:
        for one in (value, [value, "base64"], with_meta(**{"logMessages": value}), with_meta(**{"err": value})):
            try:
                reader(one)
            except RpcInvalid as error:
                assert len(str(error)) < 300


def test_base64_must_be_strict() -> None:
    assert json_values.base64_bytes([base64.b64encode(b"\0\1").decode(), "base64"], "data") == b"\0\1"
    for text in ("AAE", "AA E=", "AAE=\n", "AA_-"):
        with pytest.raises(RpcInvalid):
            json_values.base64_bytes([text, "base64"], "data")
