"""What a node's key did on the chain, read from the chain alone."""

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from listener.chain.rpc import TransactionRead
from shared.ids import TaskKey
from tests.e2e.desk import Desk


async def landed_of(desk: Desk, node: Pubkey, pair: TaskKey) -> list[TransactionRead]:
    """Transactions on the pair's account that the node signed and paid for, with or without an error."""
    address = desk.session.program.execution_address(pair.execution_id, pair.task_id)
    rows = await desk.session.rpc.get_signatures_for_address(address)
    read = [await desk.session.rpc.get_transaction(row.signature) for row in rows]
    return [one for one in read if one is not None and _payer(one) == node]


def _payer(read: TransactionRead) -> Pubkey:
    return VersionedTransaction.from_bytes(read.raw).message.account_keys[0]
