"""Signatures that mention an address, newest first, a page at a time.

Servers answer nothing to a `before` that they do not know, so an empty page says that the history ends only where
that signature is known to the endpoint. An `until` that they do not know they ignore, so none is sent: how far back is
enough is told by the slots.
"""

from collections.abc import AsyncIterator
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.rpc import MAX_SIGNATURES, Commitment, Rpc, SignatureRow
from shared.errors import PageMarkUnknown, RpcInvalid
from shared.ids import Slot

MAX_RESTARTS: Final = 5


async def page_below(
    rpc: Rpc,
    address: Pubkey,
    mark: SignatureRow | None,
    *,
    limit: int = MAX_SIGNATURES,
    commitment: Commitment = "confirmed",
) -> list[SignatureRow]:
    """The rows below `mark`, or the newest ones. None: this endpoint's history of the address ends there.

    Raises PageMarkUnknown, and RpcInvalid where the server does not go back from the mark, which would never end.
    """
    before = None if mark is None else mark.signature
    rows = await rpc.get_signatures_for_address(address, before=before, limit=limit, commitment=commitment)
    if mark is None:
        return rows
    if rows and not _go_back(rows, mark):
        raise RpcInvalid("getSignaturesForAddress does not go back from the signature that it was given")
    if not rows and not await _is_known(rpc, mark.signature):
        raise PageMarkUnknown(f"the endpoint does not know {mark.signature}, from which it was to go back")
    return rows


async def signatures_since(
    rpc: Rpc,
    address: Pubkey,
    until_slot: Slot,
    *,
    commitment: Commitment = "confirmed",
    page_size: int = MAX_SIGNATURES,
) -> AsyncIterator[list[SignatureRow]]:
    """Pages of what one endpoint has from `until_slot` on.

    Where it forgets a mark, paging begins again from the top (rows may then come twice); after MAX_RESTARTS of that it
    is RpcInvalid.
    """
    mark: SignatureRow | None = None
    restarts = 0
    while True:
        try:
            rows = await page_below(rpc, address, mark, limit=page_size, commitment=commitment)
        except PageMarkUnknown as error:
            mark, restarts = None, restarts + 1
            if restarts > MAX_RESTARTS:
                raise RpcInvalid(f"getSignaturesForAddress forgot its own rows {restarts} times") from error
            continue
        fresh = [row for row in rows if row.slot >= until_slot]
        if fresh:
            yield fresh
        if len(fresh) < len(rows) or len(rows) < page_size:
            return
        mark = rows[-1]


def _go_back(rows: list[SignatureRow], mark: SignatureRow) -> bool:
    return rows[0].slot <= mark.slot and all(row.signature != mark.signature for row in rows)


async def _is_known(rpc: Rpc, signature: Signature) -> bool:
    return (await rpc.get_signature_statuses([signature], search_history=True)).statuses[0] is not None
