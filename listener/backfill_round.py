"""One way back through the signatures, from the newest to the cursor, and where the cursor moves in the end. Pure."""

from solders.signature import Signature

from listener.chain.rpc import SignatureRow
from listener.journal.records import Cursor, PageMark
from shared.errors import RpcUnavailable
from shared.ids import UnixSeconds


class Round:
    """How far one way back has come."""

    def __init__(self, cursor: Cursor | None, mark: PageMark | None, oldest: UnixSeconds | None) -> None:
        self.cursor = cursor
        self.oldest = oldest
        """Without a cursor: what is older is not read."""
        self.is_resumed = mark is not None
        self.newest = mark.newest if mark else None
        """Where the cursor moves in the end."""
        self.mark = _row(mark.read_to) if mark else None
        """Everything above it is read."""
        self._is_newest_seen = mark is not None

    def begin(self, newest: SignatureRow | None) -> None:
        """From the top. `newest` is finalized, and no newer than the list that is to show it."""
        self._is_newest_seen = False
        self.newest = None if newest is None else Cursor(str(newest.signature), newest.slot)

    def take(self, rows: list[SignatureRow]) -> tuple[list[SignatureRow], bool]:
        """Those that are to be read, and whether the cursor is reached."""
        self.mark = rows[-1] if rows else self.mark
        newest = None if self.newest is None else self.newest.signature
        self._is_newest_seen |= any(str(row.signature) == newest for row in rows)
        fresh = [row for row in rows if self._is_fresh(row)]
        return fresh, len(fresh) < len(rows)

    def _is_fresh(self, row: SignatureRow) -> bool:
        if self.cursor is not None:
            return row.slot >= self.cursor.slot and str(row.signature) != self.cursor.signature
        return self.oldest is None or row.block_time is None or row.block_time >= self.oldest

    @property
    def reached(self) -> PageMark | None:
        """For the journal: None where what was read is not final yet. What is below what is final is final."""
        if self.newest is None or self.mark is None or not self._is_newest_seen:
            return None
        return PageMark(Cursor(str(self.mark.signature), self.mark.slot), self.newest)

    @property
    def moves_to(self) -> Cursor | None:
        """Where the cursor is when all is read. Raises RpcUnavailable where the list left the newest one out."""
        if self.newest is None or (self.cursor is not None and self.newest.slot < self.cursor.slot):
            return None  # nothing is final yet, or the endpoint lags
        if self.newest == self.cursor:
            return None
        if not self._is_newest_seen:
            raise RpcUnavailable(
                f"the list of signatures does not show {self.newest.signature}, which is finalized"
            )
        return self.newest


def _row(at: Cursor) -> SignatureRow:
    return SignatureRow(Signature.from_string(at.signature), at.slot, None)
