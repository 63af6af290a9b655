"""The rent that an execution's account lacks since the cluster asks for more than when the task was assigned."""

from dataclasses import dataclass

from solders.pubkey import Pubkey

from listener.chain.agreement import Agreement, Question
from listener.chain.rpc import Commitment, Rpc
from listener.journal.records import Task
from shared.ids import Lamports, Slot


@dataclass(frozen=True, slots=True)
class _Held:
    slot: Slot
    lamports: Lamports
    rent: Lamports


async def missing_rent(agreement: Agreement, task: Task) -> Lamports:
    """Lamports that the account would lack after the reward is paid, as two endpoints show it where there are two.

    Raises ChainError.
    """
    address = Pubkey.from_string(task.account)

    async def read(rpc: Rpc, at_least: Slot, commitment: Commitment) -> _Held:
        found = await rpc.get_account(address, commitment=commitment, min_context_slot=at_least)
        if found.account is None:
            return _Held(found.slot, Lamports(0), Lamports(0))
        return _Held(found.slot, found.account.lamports, await rpc.get_rent(len(found.account.data)))

    question = Question(
        f"the rent of {task.account}",
        read,
        same=lambda held: (held.lamports, held.rent),
        slot=lambda held: held.slot,
    )
    held = await agreement.on(question, task.verified_slot, "confirmed")
    return Lamports(max(0, held.rent - (held.lamports - task.reward)))
