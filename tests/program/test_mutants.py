"""Hostile instructions end in success within the rules or in an error of the IDL, and nobody gains by them."""

import os
import random
import struct
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.rent import Rent
from solders.system_program import TransferParams, transfer

from tests.program.chain import ERROR_NAMES, FEE, NOW, SLOT, Chain
from tests.program.instructions import (
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    HEAD_LENGTH,
    Head,
    discriminator,
    execution_address,
)
from tests.program.mutants import CLOCK, Cast, mutated, rightful

SIZE = 100_000 if os.environ.get("FULL") == "1" else 2_000
PAIRS = 8
SEED = 20_240_229
RENTS = (Rent(3_480, 2.0, 50), Rent(6_960, 1.0, 50))
"""The same sums by both rules."""
GIFT = 1_000_000
NAMES = {
    discriminator("global", name): name
    for name in ("assign_task", "cancel_execution", "task_completed", "task_failed", "reclaim")
}


def read_pair(arguments: bytes) -> tuple[str, str, bytes]:
    """Both ids, and what follows them."""
    ids = []
    for _ in range(2):
        (length,) = struct.unpack_from("<I", arguments)
        ids.append(arguments[4 : 4 + length].decode())
        arguments = arguments[4 + length :]
    return ids[0], ids[1], arguments


@dataclass(frozen=True)
class Snapshot:
    lamports: dict[Pubkey, int]
    accounts: dict[Pubkey, bytes]
    """Of all but the clock, which the test itself moves."""

    def head(self, address: Pubkey) -> Head | None:
        data = self.accounts.get(address, b"")
        return Head.read(data) if len(data) >= HEAD_LENGTH else None


@dataclass
class Trial:
    """One long history of mutants against a few pairs, each checked against what was before."""

    cast: Cast
    paid: set[tuple[Pubkey, int]] = field(default_factory=set)
    last_attempt: dict[Pubkey, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.pairs = [self.cast.pair(number, f"task-{number}") for number in range(PAIRS)]
        self.executions = [pair.address for pair in self.pairs]
        self.watched = [*self.executions, *self.cast.pool]

    def snapshot(self) -> Snapshot:
        chain = self.cast.chain
        accounts = {address: chain.account(address) for address in self.watched}
        return Snapshot(
            {address: account.lamports if account else 0 for address, account in accounts.items()},
            {
                address: bytes(account.data) if account else b""
                for address, account in accounts.items()
                if address != CLOCK
            },
        )

    def run(self, size: int, seed: int) -> None:
        draw = random.Random(seed)
        before = self.snapshot()
        for _ in range(size):
            if draw.random() < 0.3:
                self.cast.chain.pass_time(draw.choice((0, 0, 1, 5, 29, 31, 61, 700)))
            pair = draw.choice(self.pairs)
            if draw.random() < 0.05:
                self.disturb(draw, pair.address)
                before = self.snapshot()
            head = before.head(pair.address)
            attempt = head.attempt - (draw.random() < 0.1) if head else None
            if head:
                node = head.assigned_node if head.assigned_node in self.cast.keys else pair.node
                pair = replace(pair, requester=head.requester, node=node)
            instruction = rightful(draw, pair, attempt, self.cast.chain.now)
            if draw.random() < 0.75:
                instruction = mutated(draw, instruction, self.cast, self.executions)
            signers = self.cast.signers(instruction)
            outcome = self.cast.chain.send(instruction, *signers)
            self.outcomes[outcome.error or "accepted"] += 1
            after = self.snapshot()
            self.check(instruction, outcome.error, signers, before, after)
            before = after

    def disturb(self, draw: random.Random, address: Pubkey) -> None:
        """Somebody funds the address, be it new, alive or closed; or the cluster takes up its other rule of rent."""
        if draw.random() < 0.5:
            self.cast.chain.svm.set_rent(draw.choice(RENTS))
            return
        stranger = self.cast.stranger
        gift = TransferParams(from_pubkey=stranger.pubkey(), to_pubkey=address, lamports=GIFT)
        self.cast.chain.accepted(transfer(gift), self.cast.payer, stranger)

    def check(
        self,
        instruction: Instruction,
        error: str | None,
        signers: list[Keypair],
        before: Snapshot,
        after: Snapshot,
    ) -> None:
        moved = {
            address: after.lamports[address] - before.lamports[address]
            for address in after.lamports
            if after.lamports[address] != before.lamports[address]
        }
        payer = self.cast.payer.pubkey()
        moved[payer] = moved.get(payer, 0) + len(signers) * FEE
        moved = {address: lamports for address, lamports in moved.items() if lamports}
        if error is not None:
            assert error in ERROR_NAMES.values(), (error, instruction)
            assert not moved
            assert after.accounts == before.accounts
            return
        assert sum(moved.values()) == 0, moved
        address, other = instruction.accounts[0].pubkey, instruction.accounts[1]
        assert other.pubkey in {signer.pubkey() for signer in signers}
        assert set(moved) <= {address, other.pubkey}
        changed = {key for key in after.accounts if after.accounts[key] != before.accounts[key]}
        assert changed <= {address}
        name = NAMES[bytes(instruction.data[:8])]
        execution_id, task_id, rest = read_pair(bytes(instruction.data[8:]))
        assert address == execution_address(instruction.program_id, execution_id, task_id)[0]
        if name in ("task_completed", "task_failed"):
            old = before.head(address)
            assert old is not None
            assert struct.unpack_from("<Q", rest) == (old.attempt,)
        getattr(self, f"check_{name}")(address, other.pubkey, moved, before, after)

    def check_assign_task(
        self, address: Pubkey, requester: Pubkey, moved: dict[Pubkey, int], before: Snapshot, after: Snapshot
    ) -> None:
        head, old = after.head(address), before.head(address)
        assert head is not None
        assert moved.get(address, 0) >= 0
        assert head.requester == requester
        assert old is None or old.requester == requester
        assert head.state == ASSIGNED
        rent = self.cast.chain.rent(len(after.accounts[address]))
        assert after.lamports[address] >= rent + head.reward
        assert head.attempt > self.last_attempt.get(address, -1)
        self.last_attempt[address] = head.attempt

    def check_task_completed(
        self, address: Pubkey, node: Pubkey, moved: dict[Pubkey, int], before: Snapshot, after: Snapshot
    ) -> None:
        old, head = before.head(address), after.head(address)
        assert old is not None
        assert head is not None
        assert (old.state in (ASSIGNED, CANCELLED), head.state) == (True, COMPLETED)
        assert old.assigned_node == node
        assert moved.get(node, 0) == old.reward
        assert (address, old.attempt) not in self.paid
        self.paid.add((address, old.attempt))

    def check_task_failed(
        self, address: Pubkey, node: Pubkey, moved: dict[Pubkey, int], before: Snapshot, after: Snapshot
    ) -> None:
        old = before.head(address)
        assert old is not None
        assert old.assigned_node == node
        assert not moved
        assert after.accounts[address][120:] == before.accounts[address][120:]

    def check_cancel_execution(
        self, address: Pubkey, requester: Pubkey, moved: dict[Pubkey, int], before: Snapshot, after: Snapshot
    ) -> None:
        old = before.head(address)
        assert old is not None
        assert old.requester == requester
        assert not moved
        assert after.accounts[address][120:] == before.accounts[address][120:]

    def check_reclaim(
        self, address: Pubkey, requester: Pubkey, moved: dict[Pubkey, int], before: Snapshot, after: Snapshot
    ) -> None:
        old = before.head(address)
        assert old is not None
        assert old.requester == requester
        assert moved[requester] == before.lamports[address]
        assert (after.lamports[address], after.accounts[address]) == (0, b"")


@pytest.mark.timeout(1_800 if SIZE > 10_000 else 120)
def test_mutated_instructions_end_only_in_known_errors_and_nobody_gains() -> None:
    chain = Chain()
    chain.set_clock(NOW, SLOT)
    trial = Trial(Cast(chain))
    trial.run(SIZE, SEED)
    assert len(trial.paid) > SIZE // 200, trial.outcomes
    assert len(trial.outcomes) > 30, trial.outcomes
    print(dict(trial.outcomes.most_common()))
