"""Version 1 transactions (SIMD-0385), which solders 0.26 does not read. No lookup tables; limits stand in the message.

version 129 | header, 3 bytes | config mask, u32 | blockhash, 32 | instructions, u8 | addresses, u8 | addresses, 32 each
| 4 bytes for each bit of the mask | for each instruction program index u8, accounts u8, data length u16
| for each instruction account indices, data | signatures, 64 each
"""

from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from shared.errors import RpcInvalid

VERSION_BYTE: Final = 129
MAX_BYTES: Final = 4096
MAX_ADDRESSES: Final = 64
MAX_INSTRUCTIONS: Final = 64
MAX_SIGNATURES: Final = 12


@dataclass(frozen=True, slots=True)
class CompiledInstruction:
    """Indices go through the static keys, then the addresses loaded from lookup tables."""

    program_index: int
    account_indices: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class ParsedTransaction:
    """`static_keys[:signers]` have signed, one signature each, over `signed_bytes`; the first pays the fee."""

    signatures: tuple[Signature, ...]
    signed_bytes: bytes
    static_keys: tuple[Pubkey, ...]
    signers: int
    instructions: tuple[CompiledInstruction, ...]

    def is_signed(self) -> bool:
        """Whether every required ed25519 signature is there and holds."""
        keys = self.static_keys[: self.signers]
        if not keys or len(keys) != self.signers or len(keys) != len(self.signatures):
            return False
        return all(one.verify(key, self.signed_bytes) for one, key in zip(self.signatures, keys, strict=True))


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self._raw[self.at : self.at + count]
        if len(taken) != count:
            raise RpcInvalid("a version 1 transaction ends too early")
        self.at += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")


def parse(raw: bytes) -> ParsedTransaction:
    """Read a version 1 transaction. Raises RpcInvalid; signatures are not checked."""
    reader = _Reader(raw)
    if len(raw) > MAX_BYTES or reader.number(1) != VERSION_BYTE:
        raise RpcInvalid("not a version 1 transaction")
    signers, readonly_signers, readonly_others = reader.take(3)
    mask = reader.number(4)
    reader.take(32)
    instructions, addresses = reader.take(2)
    if not 1 <= signers <= min(MAX_SIGNATURES, addresses) or addresses > MAX_ADDRESSES:
        raise RpcInvalid("a version 1 transaction is above its limits")
    if instructions > MAX_INSTRUCTIONS:
        raise RpcInvalid(f"a version 1 transaction has {instructions} instructions")
    if readonly_signers >= signers or readonly_others > addresses - signers:
        raise RpcInvalid("a version 1 transaction has more read-only addresses than addresses")
    keys = tuple(Pubkey(reader.take(32)) for _ in range(addresses))
    reader.take(4 * mask.bit_count())
    heads = [(reader.number(1), reader.number(1), reader.number(2)) for _ in range(instructions)]
    called = tuple(
        CompiledInstruction(program, tuple(reader.take(accounts)), reader.take(length))
        for program, accounts, length in heads
    )
    if any(max(one.program_index, *one.account_indices, 0) >= addresses for one in called):
        raise RpcInvalid("a version 1 transaction names an address that it does not have")
    signed_bytes = raw[: reader.at]
    signatures = tuple(Signature(reader.take(64)) for _ in range(signers))
    if reader.at != len(raw):
        raise RpcInvalid("bytes follow a version 1 transaction")
    return ParsedTransaction(signatures, signed_bytes, keys, signers, called)
