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
    """
    before: Signature | None = None
    restarts = 0
    while True:
        rows = await rpc.get_signatures_for_address(
            address, before=before, until=until, limit=page_size, commitment=commitment
        )
        fresh = [row for row in rows if row.slot >= until_slot and row.signature != until]
        if fresh:
            yield fresh
        if len(fresh) < len(rows):
            return
        if rows:
            if len(rows) < page_size:
                return
            before = rows[-1].signature
        elif before is None or await _is_known(rpc, before):
            return
        else:
            before, restarts = None, restarts + 1
            if restarts > MAX_RESTARTS:
                raise RpcInvalid(f"getSignaturesForAddress forgot its own rows {restarts} times")


async def _is_known(rpc: Rpc, signature: Signature) -> bool:
    return (await rpc.get_signature_statuses([signature], search_history=True)).statuses[0] is not None
