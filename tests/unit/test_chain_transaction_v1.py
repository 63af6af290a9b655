from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from listener.chain.transactions import CompiledInstruction, parse_transaction
from shared.errors import RpcInvalid
from tests.unit.v1_transactions import OTHER, PAYER, PROGRAM, SECOND, V1

TWO_SIGNERS = V1(
    header=(2, 1, 1),
    keys=(PAYER.pubkey(), SECOND.pubkey(), OTHER, PROGRAM),
    instructions=((3, b"\0\1\2", b"one"), (3, b"", b"")),
    signers=(PAYER, SECOND),
)
RAW = bytes(V1())
BLOCKHASH_AT, COUNTS_AT, KEYS_AT = 8, 40, 42


def keys(count: int) -> tuple[Pubkey, ...]:
    return (PAYER.pubkey(), *(Pubkey([9, at, *[0] * 30]) for at in range(count - 1)))


def test_keys_instructions_and_signatures_are_read() -> None:
    parsed = parse_transaction(bytes(TWO_SIGNERS))
    assert parsed.static_keys == TWO_SIGNERS.keys
    assert parsed.instructions == (CompiledInstruction(3, (0, 1, 2), b"one"), CompiledInstruction(3, (), b""))
    assert parsed.signers == len(parsed.signatures) == 2
    assert parsed.signed_bytes == TWO_SIGNERS.message()
    assert parsed.is_signed()


@pytest.mark.parametrize("mask", [0b1, 0b11, 0b11111, 2**31, 2**32 - 1])
def test_each_bit_of_the_mask_adds_four_bytes(mask: int) -> None:
    config = bytes(range(4 * mask.bit_count()))
    parsed = parse_transaction(bytes(V1(mask=mask, config=config)))
    assert parsed.instructions == (CompiledInstruction(2, (0, 1), b"data"),)
    assert parsed.is_signed()
    with pytest.raises(RpcInvalid):
        parse_transaction(bytes(V1(mask=mask, config=config[:-4])))


def test_every_shorter_and_every_longer_one_is_invalid() -> None:
    for length in range(len(RAW)):
        with pytest.raises(RpcInvalid):
            parse_transaction(RAW[:length])
    for more in (b"\0", bytes(64), RAW):
        with pytest.raises(RpcInvalid, match="bytes follow"):
            parse_transaction(RAW + more)


def test_the_largest_one_is_read_and_no_larger_one() -> None:
    rest = 4096 - len(bytes(V1(instructions=((2, b"", b""),))))
    assert parse_transaction(bytes(V1(instructions=((2, b"", bytes(rest)),)))).is_signed()
    with pytest.raises(RpcInvalid):
        parse_transaction(bytes(V1(instructions=((2, b"", bytes(rest + 1)),))))


def test_a_signature_holds_only_for_the_bytes_that_were_signed() -> None:
    for at in (1 + 2, BLOCKHASH_AT, KEYS_AT, KEYS_AT + 40, len(RAW) - 65, len(RAW) - 1):
        changed = bytearray(RAW)
        changed[at] ^= 1
        try:
            assert not parse_transaction(bytes(changed)).is_signed()
        except RpcInvalid:
            assert at == 3


def test_signatures_of_other_keys_or_in_another_order_do_not_hold() -> None:
    assert not parse_transaction(bytes(V1(signers=(SECOND,)))).is_signed()
    assert not parse_transaction(bytes(TWO_SIGNERS.but(signers=(SECOND, PAYER)))).is_signed()
    assert not parse_transaction(bytes(TWO_SIGNERS.but(signers=(PAYER, PAYER)))).is_signed()


def test_a_transaction_that_nobody_must_sign_is_not_signed() -> None:
    parsed = parse_transaction(RAW)
    assert not replace(parsed, signers=0, signatures=()).is_signed()
    assert not replace(parsed, signatures=()).is_signed()
    assert not replace(parsed, static_keys=()).is_signed()


@pytest.mark.parametrize(
    "changed",
    [
        {"header": (0, 0, 1), "signers": ()},
        {"header": (13, 0, 1), "keys": keys(20), "signers": (PAYER,) * 13},
        {"header": (4, 0, 0), "signers": (PAYER,) * 4},
        {"header": (1, 1, 1)},
        {"header": (1, 0, 3)},
        {"keys": keys(65)},
        {"keys": ()},
        {"instructions": ((2, b"", b""),) * 65},
        {"instructions": ((3, b"", b""),)},
        {"instructions": ((2, b"\0\3", b""),)},
        {"instructions": ((2, b"", b""), (2, b"\xff", b""))},
        {"signers": ()},
        {"signers": (PAYER, SECOND)},
        {"version": 130},
    ],
    ids=str,
)
def test_what_the_format_does_not_allow_is_invalid(changed: dict[str, object]) -> None:
    with pytest.raises(RpcInvalid):
        parse_transaction(bytes(V1().but(**changed)))


def test_the_limits_themselves_are_allowed() -> None:
    widest = V1(header=(12, 11, 52), keys=keys(64), instructions=((63, b"\x3f", b""),) * 64, signers=(PAYER,) * 12)
    parsed = parse_transaction(bytes(widest))
    assert (len(parsed.static_keys), len(parsed.instructions), len(parsed.signatures)) == (64, 64, 12)
    assert not parsed.is_signed()


@given(st.binary(max_size=300), st.integers(0, len(RAW)), st.integers(0, 60))
def test_no_bytes_raise_anything_else(put: bytes, at: int, taken: int) -> None:
    for raw in (b"\x81" + put, RAW[:at] + put + RAW[at + taken :]):
        try:
            parsed = parse_transaction(raw)
        except RpcInvalid:
            continue
        assert not parsed.is_signed() or raw == RAW
