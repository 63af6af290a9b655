"""The books of chain, journal and compute, compared after a run, and what may not happen even for a moment."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from solders.pubkey import Pubkey

from tests.program.instructions import discriminator
from tests.simulation.chain import Chain, Landed
from tests.simulation.compute_model import Compute
from tests.simulation.program_model import PROGRAM_ID, Execution, Reader
from tests.simulation.runtime import SignedTransaction

_TAGS = {
    discriminator("global", name): name
    for name in ("assign_task", "cancel_execution", "task_completed", "task_failed", "reclaim")
}
OPEN = ("accepted", "computing", "cancelling", "computed", "submitting", "confirmed")


@dataclass(frozen=True, slots=True)
class Deed:
    """One instruction of the program."""

    name: str
    account: Pubkey
    attempt: int
    """What the instruction names; 0 where it names none."""
    uris: tuple[str, ...]


def deeds_of(transaction: SignedTransaction) -> list[Deed]:
    deeds = []
    for call in transaction.calls:
        name = _TAGS.get(call.data[:8])
        if call.program != PROGRAM_ID or name is None:
            continue
        reader, attempt = Reader(call.data[8:]), 0
        uris: tuple[str, ...] = ()
        reader.text(), reader.text()
        if name in ("task_completed", "task_failed"):
            attempt = reader.number("Q")
        if name == "task_completed":
            uris = reader.texts()
        deeds.append(Deed(name, call.keys[0], attempt, uris))
    return deeds


@dataclass(slots=True)
class Attempt:
    """What the chain says of one assignment to the node, on the blocks that count."""

    account: Pubkey
    number: int
    at: int
    """Unix seconds, the block's."""
    execution: Execution
    cancelled_at: int | None = None
    completed: str | None = None
    """The signature."""
    failed: str | None = None


@dataclass
class Books:
    chain: Chain
    compute: Compute
    node: Pubkey
    journal: Callable[[], Path]
    funded: int
    """Lamports of the node at the beginning."""
    problems: list[str] = field(default_factory=list)
    sent: dict[str, SignedTransaction] = field(default_factory=dict)

    # ---- at each send ----

    def on_send(self, raw: bytes) -> None:
        """Called where a provider is given a transaction of the node's."""
        transaction = SignedTransaction(raw)
        name = str(transaction.signature)
        if name in self.sent:
            if self.sent[name].raw != raw:
                self.problems.append(f"{name} was sent with other bytes")
            return
        if transaction.payer != self.node or not transaction.is_signed:
            self.problems.append(f"{name} is not signed by the node")
        if not self._is_stored(name, raw):
            self.problems.append(f"{name} was sent before it was stored")
        for deed in deeds_of(transaction):
            self._check_deed(name, deed)
        self.sent[name] = transaction

    def _is_stored(self, signature: str, raw: bytes) -> bool:
        with sqlite3.connect(f"file:{self.journal()}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT raw FROM outbox WHERE signature = ?", (signature,)).fetchall()
        db.close()
        return [bytes(row[0]) for row in rows] == [raw]

    def _check_deed(self, name: str, deed: Deed) -> None:
        if deed.name not in ("task_completed", "task_failed"):
            self.problems.append(f"the node sent {deed.name}")
            return
        if deed.name == "task_completed" and deed.uris not in self.compute.stored:
            self.problems.append(f"{name} completes with what compute never stored: {deed.uris}")
        if not self._was_ever_assigned(deed):
            self.problems.append(f"{name} ends attempt {deed.attempt} of {deed.account}, which was never assigned")
        for other, transaction in self.sent.items():
            same = any((one.account, one.attempt) == (deed.account, deed.attempt) for one in deeds_of(transaction))
            if same and self._may_still_land(transaction):
                self.problems.append(f"{name} was sent while {other} of the same attempt may land")

    def _was_ever_assigned(self, deed: Deed) -> bool:
        """In the slot that the attempt names, on whichever fork."""
        landed = [one for landings in self.chain.landings.values() for one in landings]
        there = [one.transaction for one in landed if one.err is None and one.block.slot == deed.attempt]
        done = [(one.name, one.account) for transaction in there for one in deeds_of(transaction)]
        return ("assign_task", deed.account) in done

    def _may_still_land(self, transaction: SignedTransaction) -> bool:
        """By the chain that counts: it has not landed, and its blockhash has not expired."""
        if self.chain.canonical(transaction.signature) is not None:
            return False
        return self.chain.is_recent(transaction.blockhash, self.chain.head)

    # ---- after the run ----

    def rows(self, sql: str) -> list[sqlite3.Row]:
        db = sqlite3.connect(f"file:{self.journal()}?mode=ro", uri=True)
        db.row_factory = sqlite3.Row
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def is_quiet(self) -> bool:
        """Nothing is open, owed or watched any more."""
        return not self.unrest()

    def unrest(self) -> list[tuple[object, ...]]:
        states = ", ".join(map(repr, OPEN))
        tasks = self.rows(
            f"SELECT account, attempt, state, reason, owed FROM tasks WHERE owed <> 'nothing' OR state IN ({states})"
        )
        watched = self.rows("SELECT * FROM outbox WHERE status IN ('signed', 'confirmed', 'erred')")
        return [tuple(row) for row in (*tasks, *watched)]

    def tasks(self) -> dict[tuple[str, int], dict[str, object]]:
        """Every task of the journal, those in its history too, by account and attempt."""
        columns = "account, attempt, state, reason, reward"
        rows = self.rows(f"SELECT {columns} FROM history UNION ALL SELECT {columns} FROM tasks")
        return {(row["account"], row["attempt"]): dict(row) for row in rows}

    def blocks(self) -> Iterator[Landed]:
        """Every transaction on the chain that counts, in order."""
        for block in reversed(list(self.chain.head.ancestors())):
            yield from block.landed

    def attempts(self) -> list[Attempt]:
        """Of every assignment to the node, in the order of their blocks."""
        found: list[Attempt] = []
        latest: dict[Pubkey, Attempt] = {}
        for landed in self.blocks():
            if landed.err is not None:
                continue
            for deed in deeds_of(landed.transaction):
                self._book(deed, landed, latest, found)
        return found

    def _book(self, deed: Deed, landed: Landed, latest: dict[Pubkey, Attempt], found: list[Attempt]) -> None:
        if deed.name == "assign_task":
            # The account as the transaction left it; a later one of the same block may not touch it again.
            execution = Execution.read(landed.block.cells[deed.account].data)
            latest.pop(deed.account, None)
            if execution.assigned_node == self.node:
                attempt = Attempt(deed.account, landed.block.slot, landed.block.now, execution)
                latest[deed.account] = attempt
                found.append(attempt)
            return
        known = latest.get(deed.account)
        if known is None:
            return
        signature = str(landed.transaction.signature)
        if deed.name == "task_completed":
            known.completed = signature
        elif deed.name == "task_failed":
            known.failed = signature
        elif deed.name == "cancel_execution":
            known.cancelled_at = landed.block.now
