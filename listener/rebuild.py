"""A new journal for a node whose old one is lost: made from the chain, which holds the truth about assignments.

Live assignments need nothing: a journal without a cursor has the listener list them at its first start. What the chain
shows no more once an account is closed are the pairs that were paid, and those must not be run again.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from solders.pubkey import Pubkey

from listener.chain.budget import Urgency
from listener.chain.completions import Completions, CompletionSearch
from listener.chain.endpoints import Endpoints
from listener.chain.idl import Program
from listener.journal.changes import Complete
from listener.journal.journal import Journal
from listener.journal.records import pair_hash
from shared.clock import Clock
from shared.errors import JournalError

_PARTS = ("", "-wal", "-shm", ".lock")
"""The files of one journal."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What the new journal belongs to and is made from."""

    endpoints: Endpoints
    program: Program
    node: Pubkey
    genesis_hash: str | None
    """That the cluster must have; None takes what the first endpoint says."""


async def rebuild_journal(path: Path, origin: Origin, clock: Clock, rng: random.Random) -> Completions:
    """Make the journal `path`, or nothing where that fails; returns what stands in it.

    Raises JournalError where the file is there already, ChainError where the chain cannot be read.
    """
    if path.exists():
        raise JournalError(f"{path} is there already: name a file that is not")
    genesis_hash = await origin.endpoints.join(origin.genesis_hash)
    found = await origin.endpoints.ask(
        lambda rpc: CompletionSearch(rpc, origin.program, origin.node, clock, rng).run(), Urgency.SEARCH
    )
    unfinished = path.with_name(path.name + ".unfinished")
    _remove(unfinished)
    journal = Journal(unfinished)
    try:
        await journal.belongs_to(
            genesis_hash=genesis_hash, node=str(origin.node), program=str(origin.program.program_id)
        )
        await journal.apply(*(Complete(pair_hash(key, requester)) for key, requester in found.pairs))
    finally:
        journal.close()
    unfinished.rename(path)
    _remove(unfinished)
    return found


def _remove(unfinished: Path) -> None:
    for part in _PARTS:
        unfinished.with_name(unfinished.name + part).unlink(missing_ok=True)
