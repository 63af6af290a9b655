"""How each change is written: one function for each, all of them inside the transaction that `Journal.apply` opens."""

from listener.journal.writes import books, chain, outbox, tasks
from listener.journal.writes.write import write

__all__ = ["books", "chain", "outbox", "tasks", "write"]
