import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, CompiledInstruction, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from listener.chain.transactions import MAX_TRANSACTION_BYTES, parse_transaction, sign_transaction
from shared.errors import RpcInvalid

PAYER, SECOND = Keypair.from_seed(bytes([1] * 32)), Keypair.from_seed(bytes([2] * 32))
PROGRAM, ACCOUNT, LOADED = Pubkey([3] * 32), Pubkey([4] * 32), Pubkey([5] * 32)
BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
BLOCKHASH = Hash(bytes([6] * 32))
CALL = Instruction(PROGRAM, b"data", [AccountMeta(ACCOUNT, False, True), AccountMeta(PAYER.pubkey(), True, True)])
TABLE = AddressLookupTableAccount(Pubkey([8] * 32), [LOADED])


def signed(price: int = 7) -> bytes:
    return sign_transaction([CALL], PAYER, BLOCKHASH, 50_000, price).raw


def version_0() -> bytes:
    call = Instruction(PROGRAM, b"data", [AccountMeta(LOADED, False, True), AccountMeta(ACCOUNT, False, False)])
    message = MessageV0.try_compile(PAYER.pubkey(), [call], [TABLE], BLOCKHASH)
    return bytes(VersionedTransaction(message, [PAYER]))


def two_signers() -> bytes:
    call = Instruction(PROGRAM, b"data", [AccountMeta(SECOND.pubkey(), True, False)])
    message = Message.new_with_blockhash([call], PAYER.pubkey(), BLOCKHASH)
    return bytes(VersionedTransaction(message, [PAYER, SECOND]))


BOTH = pytest.mark.parametrize(
    "raw", [signed(), version_0(), two_signers()], ids=["legacy", "version 0", "two signers"]
)


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert signed() == signed()
    assert signed() != signed(price=8)
    once = sign_transaction([CALL], PAYER, BLOCKHASH, 50_000, 7)
    assert once.raw[1:65] == bytes(once.signature)


def test_a_limit_and_a_price_stand_before_what_is_sent() -> None:
    parsed = parse_transaction(signed())
    assert parsed.static_keys[0] == PAYER.pubkey()
    assert [parsed.static_keys[one.program_index] for one in parsed.instructions] == [BUDGET, BUDGET, PROGRAM]
    wanted = [set_compute_unit_limit(50_000).data, set_compute_unit_price(7).data, b"data"]
    assert [one.data for one in parsed.instructions] == [bytes(data) for data in wanted]
    assert [parsed.static_keys[at] for at in parsed.instructions[2].account_indices] == [ACCOUNT, PAYER.pubkey()]


def test_without_a_price_only_the_limit_is_set() -> None:
    parsed = parse_transaction(sign_transaction([CALL], PAYER, BLOCKHASH, 50_000).raw)
    assert [one.data for one in parsed.instructions] == [bytes(set_compute_unit_limit(50_000).data), b"data"]


def test_accounts_of_a_lookup_table_come_after_the_static_keys() -> None:
    parsed = parse_transaction(version_0())
    assert LOADED not in parsed.static_keys
    first, second = parsed.instructions[0].account_indices
    assert first == len(parsed.static_keys)
    assert parsed.static_keys[second] == ACCOUNT


@BOTH
def test_the_signatures_of_every_signer_hold(raw: bytes) -> None:
    parsed = parse_transaction(raw)
    assert parsed.signers == len(parsed.signatures) == raw[0]
    assert parsed.is_signed()


@BOTH
def test_a_signature_holds_only_for_the_bytes_that_were_signed(raw: bytes) -> None:
    for at in (1, raw[0] * 64, len(raw) - 8, raw.index(bytes(BLOCKHASH))):
        changed = bytearray(raw)
        changed[at] ^= 1
        try:
            assert not parse_transaction(bytes(changed)).is_signed()
        except RpcInvalid:
            assert at == len(raw) - 8


def test_signatures_of_other_keys_or_in_another_order_do_not_hold() -> None:
    raw = two_signers()
    assert not parse_transaction(raw[:1] + raw[65:129] + raw[1:65] + raw[129:]).is_signed()
    assert not parse_transaction(raw[:1] + raw[1:65] * 2 + raw[129:]).is_signed()
    assert not parse_transaction(raw[:65] + bytes(64) + raw[129:]).is_signed()


@BOTH
def test_every_shorter_and_every_longer_one_is_invalid(raw: bytes) -> None:
    for length in range(len(raw)):
        with pytest.raises(RpcInvalid):
            parse_transaction(raw[:length])
    for more in (b"\0", raw, bytes(2000)):
        with pytest.raises(RpcInvalid):
            parse_transaction(raw + more)


def test_a_transaction_larger_than_a_packet_is_invalid() -> None:
    spare = MAX_TRANSACTION_BYTES - len(
        sign_transaction([Instruction(PROGRAM, bytes(900), [])], PAYER, BLOCKHASH, 1).raw
    )
    largest, larger = (
        sign_transaction([Instruction(PROGRAM, bytes(900 + spare + more), [])], PAYER, BLOCKHASH, 1).raw
        for more in (0, 1)
    )
    assert parse_transaction(largest).is_signed()
    with pytest.raises(RpcInvalid, match="1233 bytes"):
        parse_transaction(larger)


def test_a_length_that_is_written_in_two_ways_is_read_in_one() -> None:
    raw = signed()
    with pytest.raises(RpcInvalid):
        parse_transaction(b"\x81\0" + raw[1:])
    with pytest.raises(RpcInvalid):
        parse_transaction(raw[:68] + bytes([raw[68] | 0x80, 0]) + raw[69:])


KEYS = [PAYER.pubkey(), ACCOUNT, PROGRAM]


@pytest.mark.parametrize(
    ("header", "call"),
    [
        ((1, 0, 1), CompiledInstruction(3, b"", b"\0")),
        ((1, 0, 1), CompiledInstruction(2, b"", b"\3")),
        ((1, 0, 1), CompiledInstruction(0, b"", b"")),
        ((1, 1, 1), CompiledInstruction(2, b"", b"\0")),
        ((1, 0, 3), CompiledInstruction(2, b"", b"\0")),
        ((2, 0, 1), CompiledInstruction(2, b"", b"\0")),
        ((0, 0, 1), CompiledInstruction(2, b"", b"\0")),
    ],
    ids=["program", "account", "payer as program", "read-only signers", "read-only", "signers", "no signer"],
)
def test_indices_and_counts_that_do_not_fit_are_invalid(
    header: tuple[int, int, int], call: CompiledInstruction
) -> None:
    message = Message.new_with_compiled_instructions(*header, KEYS, BLOCKHASH, [call])
    raw = bytes(VersionedTransaction.populate(message, [Signature.default()]))
    with pytest.raises(RpcInvalid):
        parse_transaction(raw)


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 60), st.sampled_from([signed(), version_0()]))
def test_no_bytes_raise_anything_else(put: bytes, at: int, taken: int, whole: bytes) -> None:
    for raw in (put, whole[:at] + put + whole[at + taken :]):
        try:
            parsed = parse_transaction(raw)
        except RpcInvalid:
            continue
        assert not parsed.is_signed() or raw == whole
