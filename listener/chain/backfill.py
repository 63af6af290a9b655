"""Signatures that were missed, newest first, a page at a time."""

from collections.abc import AsyncIterator
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.rpc import MAX_SIGNATURES, Commitment, Rpc, SignatureRow
from shared.errors import RpcInvalid
from shared.ids import Slot

MAX_RESTARTS: Final = 5


async def signatures_since(
    rpc: Rpc,
    address: Pubkey,
    until: Signature | None,
    until_slot: Slot,
    *,
    commitment: Commitment = "confirmed",
    page_size: int = MAX_SIGNATURES,
) -> AsyncIterator[list[SignatureRow]]:
    """Pages of what mentions `address` after the cursor (`until` at `until_slot`), of that slot itself too.

    Servers ignore an `until` that they do not know, so slots are compared here. They answer nothing to a `before`
    that they do not know, so an empty page is believed only where that signature is known to the endpoint; else
    paging begins again from the top (rows may then come twice), and after MAX_RESTARTS of that it is RpcInvalid.
    So is a server that does not go back from `before`, which would be asked without end.
    """
    mark: SignatureRow | None = None
    restarts = 0
    while True:
        before = None if mark is None else mark.signature
        rows = await rpc.get_signatures_for_address(
            address, before=before, until=until, limit=page_size, commitment=commitment
        )
        if mark is not None and rows and not _go_back(rows, mark):
            raise RpcInvalid("getSignaturesForAddress does not go back from the signature that it was given")
        fresh = [row for row in rows if row.slot >= until_slot and row.signature != until]
        if fresh:
            yield fresh
        if len(fresh) < len(rows):
            return
        if rows:
            if len(rows) < page_size:
                return
            mark = rows[-1]
        elif mark is None or await _is_known(rpc, mark.signature):
            return
        else:
            mark, restarts = None, restarts + 1
            if restarts > MAX_RESTARTS:
                raise RpcInvalid(f"getSignaturesForAddress forgot its own rows {restarts} times")


def _go_back(rows: list[SignatureRow], mark: SignatureRow) -> bool:
    return rows[0].slot <= mark.slot and all(row.signature != mark.signature for row in rows)


async def _is_known(rpc: Rpc, signature: Signature) -> bool:
    return (await rpc.get_signature_statuses([signature], search_history=True)).statuses[0] is not None
