"""Which task an operator means."""

from typing import Final

from cli.commands.plain import plain
from listener.journal.beside import JournalBeside
from shared.errors import UnknownTask
from shared.ids import TaskKey

ID_HELP: Final = (
    "executionId/taskId, or the beginning of either, or of both around the slash, where only one task begins so"
)
SHOWN: Final = 10


async def found_pair(journal: JournalBeside, text: str) -> TaskKey:
    """Raises UnknownTask where no task of the journal, or more than one, is meant."""
    pairs = await journal.pairs_like(text, SHOWN + 1)
    if len(pairs) == 1:
        return pairs[0]
    if not pairs:
        raise UnknownTask(f"the journal holds no task {plain(text)!r}: splitup-node tasks lists them")
    more = ", …" if len(pairs) > SHOWN else ""
    raise UnknownTask(f"{plain(text)!r} may be any of: {', '.join(map(str, pairs[:SHOWN]))}{more}")
