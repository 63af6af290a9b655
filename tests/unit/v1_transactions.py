"""Version 1 transactions written by hand, as SIMD-0385 lays them out."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from solders.keypair import Keypair
from solders.pubkey import Pubkey

PAYER, SECOND = Keypair.from_seed(bytes([1] * 32)), Keypair.from_seed(bytes([2] * 32))
PROGRAM, OTHER = Pubkey([3] * 32), Pubkey([4] * 32)


@dataclass(frozen=True)
class V1:
    """What a test does not say is as a careful sender would have it."""

    version: int = 129
    header: tuple[int, int, int] = (1, 0, 1)
    mask: int = 0
    config: bytes = b""
    blockhash: bytes = bytes([5] * 32)
    keys: Sequence[Pubkey] = (PAYER.pubkey(), OTHER, PROGRAM)
    instructions: Sequence[tuple[int, bytes, bytes]] = ((2, b"\0\1", b"data"),)
    """Index of the program, indices of the accounts, data."""
    signers: Sequence[Keypair] = (PAYER,)

    def message(self) -> bytes:
        counts = bytes([len(self.instructions), len(self.keys)])
        heads = [struct.pack("<BBH", at, len(accounts), len(data)) for at, accounts, data in self.instructions]
        return b"".join(
            [
                bytes([self.version, *self.header]),
                struct.pack("<I", self.mask),
                self.blockhash,
                counts,
                *map(bytes, self.keys),
                self.config,
                *heads,
                *(accounts + data for _, accounts, data in self.instructions),
            ]
        )

    def __bytes__(self) -> bytes:
        message = self.message()
        return message + b"".join(bytes(signer.sign_message(message)) for signer in self.signers)

    def but(self, **values: Any) -> "V1":
        return replace(self, **values)
