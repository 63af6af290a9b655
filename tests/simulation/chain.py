"""The simulated chain: slots, blocks, forks, and which transactions are in them."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from tests.simulation.program_model import LAMPORTS_PER_BYTE, Bank, Cell
from tests.simulation.runtime import SignedTransaction, run

EPOCH: Final = 1_700_000_000
"""The chain's Unix seconds at the beginning."""
FIRST_SLOT: Final = 5_000
FINALIZED_DEPTH: Final = 32


@dataclass(slots=True, eq=False)
class Landed:
    """A transaction in one block."""

    transaction: SignedTransaction
    block: "Block"
    err: Any
    logs: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Block:
    slot: int
    height: int
    parent: "Block | None"
    now: int
    blockhash: str
    cells: dict[Pubkey, Cell]
    lamports_per_byte: int
    landed: list[Landed] = field(default_factory=list)
    is_dead: bool = False
    """A fork left it behind."""
    is_notified: bool = False

    def ancestors(self) -> Iterator["Block"]:
        """This one, then what came before it."""
        block: Block | None = self
        while block is not None:
            yield block
            block = block.parent

    def is_on_chain_of(self, head: "Block") -> bool:
        if not self.is_dead and not head.is_dead:
            return self.slot <= head.slot
        return any(block is self for block in head.ancestors() if block.slot >= self.slot)

    def bank(self) -> Bank:
        return Bank(self.cells, self.slot, self.now, self.lamports_per_byte, {})


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """How this chain behaves. Seconds, slots, or probabilities for each slot or send."""

    slot_s: float = 0.4
    blockhash_life: int = 150
    """Blocks in which a transaction may name it."""
    skipped: float = 0.0
    lost: float = 0.0
    """Of sends that reach no leader."""
    fork: float = 0.0
    deep_fork: float = 0.0
    """Of forks that take back what was confirmed."""
    max_delay_slots: int = 2
    clock_rate: float = 1.0
    """Seconds of the chain's clock in one of ours."""


class Chain:
    def __init__(self, terms: ChainTerms, rng: random.Random) -> None:
        self.terms = terms
        self._rng = rng
        self.slot = FIRST_SLOT
        self._time = asyncio.get_running_loop().time
        self.lamports_per_byte = LAMPORTS_PER_BYTE
        blockhash = str(Hash(hashlib.sha256(b"genesis").digest()))
        self.head = self.finalized = Block(self.slot, 4_000, None, EPOCH, blockhash, {}, LAMPORTS_PER_BYTE)
        self.confirmed_slot = self.slot
        self._pending: dict[Signature, tuple[SignedTransaction, int]] = {}
        self.landings: dict[Signature, list[Landed]] = {}
        self._watchers: list[Callable[[], None]] = []
        self.is_calm = False
        """No forks and no losses any more."""

    def fund(self, address: Pubkey, lamports: int) -> None:
        """Before the first block."""
        self.head.cells[address] = Cell(lamports)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call it after each slot."""
        self._watchers.append(watcher)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.terms.slot_s)
            self._next_slot()
            for watcher in self._watchers:
                watcher()

    @property
    def now(self) -> float:
        """Unix seconds by the chain's clock."""
        return EPOCH + self._time() * self.terms.clock_rate

    def confirmed_of(self, head: Block) -> Block:
        return head.parent or head

    def finalized_of(self, head: Block) -> Block:
        """What that head holds for final, never before what was final once."""
        for block in head.ancestors():
            if block is self.finalized or block.height <= head.height - FINALIZED_DEPTH:
                return block
        return self.finalized

    def canonical(self, transaction: Signature) -> Landed | None:
        """Where it stands on the chain that counts."""
        return next((one for one in self.landings.get(transaction, ()) if not one.block.is_dead), None)

    # ---- transactions ----

    def send(self, raw: bytes) -> None:
        """To a leader: in one of the next blocks, unless it is lost, known, expired or cannot pay."""
        transaction = SignedTransaction(raw)
        if not self.is_calm and self._rng.random() < self.terms.lost:
            return
        if transaction.signature not in self._pending and transaction.is_signed:
            delay = self._rng.randint(0, self.terms.max_delay_slots)
            self._pending[transaction.signature] = transaction, self.slot + 1 + delay

    def simulate(self, raw: bytes, block: Block) -> Any:
        ran = run(SignedTransaction(raw), block.bank())
        return "InsufficientFundsForFee" if ran is None else ran.err

    def is_recent(self, blockhash: str, head: Block) -> bool:
        """Whether a transaction with it may stand in a child of `head`."""
        known = self._block_of(blockhash, head)
        return known is not None and head.height + 1 - known.height <= self.terms.blockhash_life

    def _block_of(self, blockhash: str, head: Block) -> Block | None:
        for block in head.ancestors():
            if head.height - block.height > self.terms.blockhash_life:
                return None
            if block.blockhash == blockhash:
                return block
        return None

    # ---- blocks ----

    def _next_slot(self) -> None:
        self.slot += 1
        if not self.is_calm and self._rng.random() < self.terms.fork:
            self._fork()
        elif not self.is_calm and self._rng.random() < self.terms.skipped:
            return
        parent = self.head
        name = f"{self.slot}/{parent.blockhash}".encode()
        block = Block(
            slot=self.slot,
            height=parent.height + 1,
            parent=parent,
            now=int(self.now),
            blockhash=str(Hash(hashlib.sha256(name).digest())),
            cells=parent.cells,
            lamports_per_byte=self.lamports_per_byte,
        )
        for signature, (transaction, slot) in list(self._pending.items()):
            if slot <= self.slot:
                del self._pending[signature]
                self._include(transaction, block)
        self.head = block
        self.finalized = self.finalized_of(block)

    def _include(self, transaction: SignedTransaction, block: Block) -> None:
        assert block.parent is not None
        known = any(one.block.is_on_chain_of(block) for one in self.landings.get(transaction.signature, ()))
        if known or not self.is_recent(transaction.blockhash, block.parent):
            return
        ran = run(transaction, block.bank())
        if ran is None:
            return
        cells = dict(block.cells)
        for address, cell in ran.changed.items():
            if cell is None:
                cells.pop(address, None)
            else:
                cells[address] = cell
        block.cells = cells
        landed = Landed(transaction, block, ran.err, ran.logs)
        block.landed.append(landed)
        self.landings.setdefault(transaction.signature, []).append(landed)

    def _fork(self) -> None:
        """The newest blocks are left behind. Most of what stood in them is tried again by somebody."""
        depth = self._rng.randint(4, 12) if self._rng.random() < self.terms.deep_fork else 1
        for _ in range(depth):
            if self.head.parent is None or self.head is self.finalized:
                return
            self.head.is_dead = True
            for landed in self.head.landed:
                if self._rng.random() < 0.7:
                    again = landed.transaction, self.slot + self._rng.randint(0, 6)
                    self._pending[landed.transaction.signature] = again
            self.head = self.head.parent
