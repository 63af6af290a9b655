"""Instructions that were right, changed at random: data, lengths, accounts, duplicates, signers, owners."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from tests.program.chain import Chain
from tests.program.instructions import SYSTEM_PROGRAM, Assignment, Builder, discriminator
from tests.program.world import INSTRUCTIONS

CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
PURSE = 10**12


def keypair(name: str) -> Keypair:
    """The same key for the same name, on every chain."""
    return Keypair.from_seed(name.encode().ljust(32, b"."))


@dataclass
class Cast:
    """Who takes part: wallets whose keys we hold, and accounts that are there to be passed wrongly."""

    chain: Chain

    def __post_init__(self) -> None:
        self.payer, self.stranger = keypair("payer"), keypair("stranger")
        self.requesters = (keypair("requester 1"), keypair("requester 2"))
        self.nodes = (keypair("node 1"), keypair("node 2"))
        wallets = (self.payer, *self.requesters, *self.nodes, self.stranger)
        self.keys = {wallet.pubkey(): wallet for wallet in wallets}
        for address in self.keys:
            self.chain.svm.set_account(address, Account(PURSE, b"", SYSTEM_PROGRAM))
        decoy = self._decoy()
        self.decoys = {
            keypair("owned by another program").pubkey(): Account(10**9, decoy, Pubkey([9] * 32)),
            keypair("ours at a wrong address").pubkey(): Account(10**9, decoy, self.chain.program_id),
            keypair("ours and empty").pubkey(): Account(10**9, b"", self.chain.program_id),
        }
        for address, account in self.decoys.items():
            self.chain.svm.set_account(address, account)

    def _decoy(self) -> bytes:
        """What an execution's account holds, to lie where it should not."""
        pair = self.pair(0, "decoy")
        terms = replace(Assignment(), task_id="decoy", deadline=self.chain.now + 3_600)
        self.chain.accepted(pair.assign_task(terms), self.payer, self.requesters[0])
        account = self.chain.account(pair.address)
        assert account is not None
        return bytes(account.data)

    def pair(self, number: int, task_id: str) -> Builder:
        """Pairs are spread over the requesters and the nodes."""
        requester, node = self.requesters[number % 2], self.nodes[number // 2 % 2]
        return Builder(self.chain.program_id, requester.pubkey(), node.pubkey(), task_id=task_id)

    @property
    def pool(self) -> list[Pubkey]:
        """Accounts that may be passed in place of others."""
        nobody = keypair("nobody").pubkey()
        return [*self.keys, *self.decoys, SYSTEM_PROGRAM, CLOCK, self.chain.program_id, nobody]

    def signers(self, instruction: Instruction) -> list[Keypair]:
        """The payer, then everybody that the instruction has sign."""
        named = dict.fromkeys(meta.pubkey for meta in instruction.accounts if meta.is_signer)
        return [self.payer, *(self.keys[address] for address in named if address != self.payer.pubkey())]


def rightful(draw: random.Random, pair: Builder, attempt: int | None, now: int) -> Instruction:
    """One of the five instructions, as its sender would mean it; `attempt` is None where there is no account."""
    name = "assign_task" if attempt is None and draw.random() < 0.8 else draw.choice(INSTRUCTIONS)
    attempt = attempt or 0
    count = draw.choice((1, 1, 2, 3, 8))
    uris = tuple(f"s3://bucket/{draw.randint(0, 9)}/k{'#*' * (draw.random() < 0.2)}" for _ in range(count))
    terms = Assignment(
        execution_id=pair.execution_id,
        task_id=pair.task_id,
        input_uris=uris,
        expected_output_count=draw.choice((1, 1, 2, 3)),
        deadline=now + draw.choice((20, 600, 3_600)),
        reward=draw.choice((0, 1, 1_000_000, 10**8)),
    )
    outputs = uris[: draw.choice((1, 1, 2, 3))]
    return {
        "assign_task": lambda: pair.assign_task(terms),
        "cancel_execution": pair.cancel_execution,
        "task_completed": lambda: pair.task_completed(attempt, outputs),
        "task_failed": lambda: pair.task_failed(attempt, "é" * draw.randint(0, 128)),
        "reclaim": pair.reclaim,
    }[name]()


Bytes = Callable[[random.Random, bytes], bytes]
Metas = Callable[[random.Random, list[AccountMeta], Cast, Sequence[Pubkey]], None]
EXTREMES = (0, 1, 7, 9, 255, 256, 401, 2**16, 2**31, 2**32 - 1)


def flip_a_bit(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) or 1)
    return data[:at] + bytes(byte ^ 1 << draw.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def append(draw: random.Random, data: bytes) -> bytes:
    return data + draw.randbytes(draw.randint(1, 40))


def overwrite(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    put = draw.randbytes(draw.randint(1, 12))
    return data[:at] + put + data[at + len(put) :]


def insert(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.randbytes(draw.randint(1, 12)) + data[at:]


def set_a_length(draw: random.Random, data: bytes) -> bytes:
    """An extreme number, most often where the first strings have their lengths."""
    at = 8 if draw.random() < 0.3 else draw.randint(0, max(len(data) - 4, 0))
    return data[:at] + struct.pack("<I", draw.choice(EXTREMES)) + data[at + 4 :]


def set_a_number(draw: random.Random, data: bytes) -> bytes:
    """An extreme number at the end, where deadline, units, reward and time stand."""
    at = max(len(data) - 8 * draw.randint(1, 3), 0)
    number = draw.choice((0, 1, 2**53, 2**53 - 1, 2**63 - 1, 2**63, 2**64 - 1))
    return data[:at] + struct.pack("<Q", number) + data[at + 8 :]


def rename(draw: random.Random, data: bytes) -> bytes:
    return discriminator("global", draw.choice(INSTRUCTIONS)) + data[8:]


def swap(draw: random.Random, metas: list[AccountMeta], cast: Cast, others: Sequence[Pubkey]) -> None:
    if metas:
        first, second = draw.randrange(len(metas)), draw.randrange(len(metas))
        metas[first], metas[second] = metas[second], metas[first]


def duplicate(draw: random.Random, metas: list[AccountMeta], cast: Cast, others: Sequence[Pubkey]) -> None:
    if metas:
        metas[draw.randrange(len(metas))] = draw.choice(metas)


def drop(draw: random.Random, metas: list[AccountMeta], cast: Cast, others: Sequence[Pubkey]) -> None:
    if metas:
        del metas[draw.randrange(len(metas))]


def add(draw: random.Random, metas: list[AccountMeta], cast: Cast, others: Sequence[Pubkey]) -> None:
    count = draw.choice((1, 1, 1, 9))
    metas.extend(AccountMeta(draw.choice(cast.pool), False, draw.random() < 0.5) for _ in range(count))


def exchange(draw: random.Random, metas: list[AccountMeta], cast: Cast, others: Sequence[Pubkey]) -> None:
    if metas:
        at, address = draw.randrange(len(metas)), draw.choice([*cast.pool, *others])
        signs = metas[at].is_signer and address in cast.keys
        metas[at] = AccountMeta(address, signs, metas[at].is_writable)


def toggle(draw: random.Random, metas: list[AccountMeta], cast: Cast, others: Sequence[Pubkey]) -> None:
    if metas:
        at = draw.randrange(len(metas))
        meta = metas[at]
        if draw.random() < 0.5 and meta.pubkey in cast.keys:
            metas[at] = AccountMeta(meta.pubkey, not meta.is_signer, meta.is_writable)
        else:
            metas[at] = AccountMeta(meta.pubkey, meta.is_signer, not meta.is_writable)


OF_DATA: tuple[Bytes, ...] = (flip_a_bit, cut, append, overwrite, insert, set_a_length, set_a_number, rename)
OF_ACCOUNTS: tuple[Metas, ...] = (swap, duplicate, drop, add, exchange, exchange, toggle, toggle)


def mutated(draw: random.Random, instruction: Instruction, cast: Cast, others: Sequence[Pubkey]) -> Instruction:
    """One to three changes; `others` are execution accounts of other pairs."""
    data, metas = bytes(instruction.data), list(instruction.accounts)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if draw.random() < 0.5:
            data = draw.choice(OF_DATA)(draw, data)
        else:
            draw.choice(OF_ACCOUNTS)(draw, metas, cast, others)
    # A validator never lets these be writable, whatever a transaction says; LiteSVM does.
    metas = [
        AccountMeta(meta.pubkey, meta.is_signer, False) if meta.pubkey in (SYSTEM_PROGRAM, CLOCK) else meta
        for meta in metas
    ]
    return Instruction(instruction.program_id, data, metas)
