"""What a node's key did on the chain, read from the chain alone."""

import asyncio
import time

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from listener.chain.rpc import TransactionRead
from shared.ids import TaskKey
from tests.e2e.desk import Desk

LISTED_WITHIN_S = 60.0
"""A validator lists a transaction some time after it shows what the transaction did."""


async def landed_of(desk: Desk, node: Pubkey, pair: TaskKey, at_least: int = 0) -> list[TransactionRead]:
    """Transactions on the pair's account that the node signed and paid for, with or without an error.

    `at_least`: so many are waited for.
    """
    give_up = time.monotonic() + LISTED_WITHIN_S
    while True:
        found = await _landed_of(desk, node, pair)
        if len(found) >= at_least or time.monotonic() > give_up:
            return found
        await asyncio.sleep(0.5)


async def _landed_of(desk: Desk, node: Pubkey, pair: TaskKey) -> list[TransactionRead]:
    address = desk.session.program.execution_address(pair.execution_id, pair.task_id)
    rows = await desk.session.rpc.get_signatures_for_address(address)
    read = [await desk.session.rpc.get_transaction(row.signature) for row in rows]
    return [one for one in read if one is not None and _payer(one) == node]


def _payer(read: TransactionRead) -> Pubkey:
    return VersionedTransaction.from_bytes(read.raw).message.account_keys[0]
