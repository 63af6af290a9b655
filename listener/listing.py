"""The live accounts of the node, which are the truth: listed at start and every few minutes.

Each that may say more than the journal is read whole; those that pass the rules on their head, and end soonest, first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.accounts import ExecutionHead, list_live
from listener.chain.budget import Urgency
from listener.chain.endpoints import NEXT_ONE, Endpoints
from listener.chain.idl import Program
from listener.chain.rpc import Rpc
from listener.decisions import Decision, is_worth_a_look
from listener.heads import rank, unserved
from listener.journal.changes import PassOver
from listener.journal.records import Task
from listener.journal.states import ENDED, UNSIGNED
from listener.looks import Looks
from listener.rules import Rules
from listener.steps import Steps
from shared.errors import ChainError, IdlInvalid, RpcRefused, RpcUnavailable
from shared.ids import Attempt, Requester, Slot
from shared.logs import fields

LOOKED_AT: Final = 64
"""Accounts that wait for a look at once; the order of the others is kept."""
PASSING: Final = frozenset({-32603, -32000, -32004, -32014, -32016})
"""JSON-RPC errors that pass by themselves: an internal one, and those of a node that lags. No refusal."""

Heads = list[tuple[Pubkey, ExecutionHead]]

log = logging.getLogger("listener.listing")


class Listing:
    def __init__(
        self,
        endpoints: Endpoints,
        program: Program,
        node: Pubkey,
        looks: Looks,
        steps: Steps,
        rules: Rules,
        now: Callable[[], Awaitable[float]],
    ) -> None:
        """`now` gives Unix seconds by the chain's clock."""
        self._endpoints = endpoints
        self._program = program
        self._node = node
        self._looks = looks
        self._steps = steps
        self._journal = steps.journal
        self._rules = rules
        self._now = now
        self._is_said = False
        self.refused: str | None = None
        """Why accounts cannot be listed, so that signature lists alone are followed; None where they can."""

    async def run(self) -> bool:
        """Look at every live account that may say more than the journal, and at every task that none of them is.

        False: it is refused, and only the node's own tasks were looked at. Raises ChainError where nobody answers.
        """
        heads = await self._heads()
        ordered = [] if heads is None else await self._ordered(heads)
        looks = [(str(address), head.attempt) for address, head in ordered]
        await self._look_at_all([*looks, *await self._unlisted(heads or [])])
        return heads is not None

    async def _heads(self) -> Heads | None:
        """None where no endpoint lists them; said once, until one does."""
        why = self._program.by_transactions
        if why is None:
            try:
                heads = await self._listed()
            except (RpcRefused, IdlInvalid) as error:
                why = str(error)
            else:
                self.refused, self._is_said = None, False
                return heads
        self.refused = why
        if not self._is_said:
            log.warning("accounts are not listed; signature lists alone are followed", extra=fields(why=why))
            self._is_said = True
        return None

    async def _listed(self) -> Heads:
        """By the first endpoint that lists them. Raises RpcRefused where one refuses and none answers."""
        errors: list[ChainError] = []
        for endpoint in self._endpoints.usable():
            try:
                return await endpoint.ask(self._ask, Urgency.SEARCH)
            except NEXT_ONE as error:
                errors.append(error)
        raise next((error for error in errors if isinstance(error, RpcRefused)), _first(errors))

    async def _ask(self, rpc: Rpc) -> Heads:
        try:
            return await list_live(rpc, self._program, self._node)
        except RpcRefused as error:
            if error.code in PASSING:
                raise RpcUnavailable(str(error)) from error
            raise

    async def _ordered(self, heads: Heads) -> Heads:
        """Those that are to be read whole, the best first; who is refused without a word is recorded by its head."""
        worth: Heads = []
        for address, head in heads:
            known = await self._journal.latest(str(address))
            if await self._is_worth_a_look(str(address), head, known):
                is_over = known is None or known.state in ENDED
                why = unserved(head, self._rules, await self._now()) if is_over else None
                if why is None:
                    worth.append((address, head))
                else:
                    await self._pass_over(head, why)
        now = await self._now() if worth else 0.0
        return sorted(worth, key=lambda found: rank(found[1], self._rules, now))

    async def _is_worth_a_look(self, account: str, head: ExecutionHead, known: Task | None) -> bool:
        """Whether the journal does not know this attempt, or the head says more than its row, or a fork's attempt."""
        if known is None or head.attempt > known.attempt:
            return not await self._journal.knows(account, head.attempt)
        return head.attempt < known.attempt or is_worth_a_look(head.state, known)

    async def _pass_over(self, head: ExecutionHead, why: str) -> None:
        requester = Requester(str(head.requester))
        passed = PassOver(str(head.address), head.attempt, Slot(head.attempt), why, refused=requester)
        await self._steps.take(None, Decision((passed,)))

    async def _unlisted(self, heads: Heads) -> list[tuple[str, Attempt | None]]:
        """Tasks of ours that are not signed and not among them: their accounts say why."""
        listed = {str(address) for address, _ in heads}
        tasks = await self._journal.tasks_in(UNSIGNED)
        return [(task.account, None) for task in tasks if task.account not in listed]

    async def _look_at_all(self, looks: list[tuple[str, Attempt | None]]) -> None:
        """In their order, some at once."""
        places = asyncio.Semaphore(LOOKED_AT)

        async def look(account: str, attempt: Attempt | None) -> None:
            try:
                await self._looks.take(account, listed=attempt)
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            for account, attempt in looks:
                await places.acquire()
                group.create_task(look(account, attempt))


def _first(errors: list[ChainError]) -> ChainError:
    return errors[0] if errors else RpcUnavailable("no endpoint may be asked for accounts")
