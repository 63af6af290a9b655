"""Transactions that mention the node (or the program): from their logs to the accounts that they tell of."""

import asyncio
import dataclasses
import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.budget import Urgency
from listener.chain.calls import called_events, calls
from listener.chain.endpoints import Endpoints
from listener.chain.events import parse_logs
from listener.chain.feed import Notification
from listener.chain.idl import ExecutionCancelled, Program, TaskAssigned
from listener.chain.rpc import SignatureRow, TransactionRead
from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.journal.states import UNSIGNED
from listener.looks import Looks
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ChainError, EventInvalid, RpcInvalid, RpcRefused, RpcUnavailable
from shared.ids import Slot
from shared.logs import fields

REMEMBERED: Final = 20_000
"""Transactions read lately, so that no list has them read again."""
TRIES: Final = 5
"""Of a backfill at one transaction, before it is left to the listing."""
RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)

Told = TaskAssigned | ExecutionCancelled
"""The events that lead to an account."""
_TOLD_BY: Final = frozenset({"assign_task", "cancel_execution"})
"""The instructions that write them."""

log = logging.getLogger("listener.mentions")


class Mentions:
    def __init__(
        self,
        endpoints: Endpoints,
        program: Program,
        node: Pubkey,
        journal: Journal,
        looks: Looks,
        list_soon: asyncio.Event,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._endpoints = endpoints
        self._program = program
        self._node = node
        self._journal = journal
        self._looks = looks
        self._list_soon = list_soon
        self._clock = clock
        self._rng = rng
        self._read: OrderedDict[tuple[Signature, Slot], None] = OrderedDict()
        self._failed: Counter[Signature] = Counter()

    async def on_notification(self, told: Notification) -> None:
        """Of a transaction without an event in its log the signature lists tell once more: it may call itself."""
        if told.err is not None:
            return
        parsed = parse_logs(told.logs, str(self._program.program_id))
        if parsed.truncated:
            self._list_soon.set()
        elif parsed.events and await self._act_on_told(told, parsed.events):
            self._remember(told.signature, told.slot)

    async def _act_on_told(self, told: Notification, raws: Sequence[tuple[int, bytes]]) -> bool:
        """Where only the instruction names the account, the transaction is read too, as soon as it is there."""
        events = self._of_this_node(told.signature, raws)
        if all(self._is_enough(event) for _, event in events):
            return await self._act_on(told.signature, told.slot, events, None)
        for failures in range(TRIES):
            with suppress(ChainError):
                found = await self._transaction(told.signature)
                if found is not None and found.err is None:
                    return await self._act_on(told.signature, found.slot, events, found)
            await self._clock.sleep(RETRY.delay_s(failures, self._rng))
        return False  # the signature lists tell of it once more

    async def _transaction(self, signature: Signature) -> TransactionRead | None:
        return await self._endpoints.ask(lambda rpc: rpc.get_transaction(signature), Urgency.SEARCH)

    def _is_enough(self, event: Told) -> bool:
        """Whether the event alone leads to its account."""
        return event.task_id is None or self._program.address_of(_values(event)) is not None

    async def on_listed(self, row: SignatureRow) -> None:
        """Read the transaction, unless it failed or was read.

        Raises ChainError where the endpoint does not answer, or (the first few times) does not have what it listed.
        """
        if row.err is not None or (row.signature, row.slot) in self._read:
            return
        try:
            found = await self._transaction(row.signature)
        except (RpcInvalid, RpcRefused) as error:
            # Passed over: whoever wrote it may have made it unreadable. The listing finds its account.
            log.info("a transaction cannot be read", extra=fields(signature=row.signature, error=str(error)))
            self._list_soon.set()
        else:
            if found is None:
                self._once_more(row, "the endpoint does not have a transaction that it listed")
            elif found.err is None:
                await self._act_on_transaction(row, found)
        self._remember(row.signature, row.slot)

    async def _act_on_transaction(self, row: SignatureRow, found: TransactionRead) -> None:
        parsed = parse_logs(found.logs, str(self._program.program_id))
        try:
            raws = (*parsed.events, *called_events(self._program.program_id, found))
            events = self._of_this_node(row.signature, raws)
            if parsed.truncated:
                self._list_soon.set()
            elif not await self._act_on(row.signature, found.slot, events, found):
                self._once_more(row, "an account that a transaction tells of cannot be read")
        except RpcInvalid:
            self._list_soon.set()

    def _once_more(self, row: SignatureRow, reason: str) -> None:
        """Keep the cursor where it is for a few tries; no transaction may keep it there for ever."""
        self._failed[row.signature] += 1
        if self._failed[row.signature] < TRIES:
            raise RpcUnavailable(f"{reason}: {row.signature}")
        log.warning(reason, extra=fields(signature=row.signature))
        self._list_soon.set()

    def _of_this_node(self, signature: Signature, raws: Sequence[tuple[int, bytes]]) -> list[tuple[int, Told]]:
        events: list[tuple[int, Told]] = []
        for index, raw in raws:
            try:
                event = self._program.decode_event(raw)
            except EventInvalid as error:
                log.info("not an event", extra=fields(signature=signature, error=str(error)))
                continue
            if isinstance(event, Told) and event.assigned_node == self._node:
                events.append((index, event))
        return events

    async def _act_on(
        self,
        signature: Signature,
        slot: Slot,
        events: Sequence[tuple[int, Told]],
        found: TransactionRead | None,
    ) -> bool:
        """Look at each account that an event tells of. False where one could not be read. Raises RpcInvalid."""
        read = True
        for index, event in events:
            for account in await self._accounts(event, found):
                row = EventRow(str(signature), index, slot, type(event).__name__, account)
                if not await self._journal.has_event(row):
                    read = await self._looks.take(account, slot, (row,)) and read
        return read

    async def _accounts(self, event: Told, found: TransactionRead | None) -> list[str]:
        """The event's account; without a taskId, of each task of that execution that is not signed yet.

        Where the IDL has no rule for the address, the one that an instruction of the transaction names.
        """
        if event.task_id is None:
            tasks = await self._journal.tasks_in(UNSIGNED)
            return [task.account for task in tasks if task.execution_id == event.execution_id]
        values = _values(event)
        address = self._program.address_of(values)
        if address is not None:
            return [str(address)]
        called = () if found is None else calls(self._program, found)
        named = [call.execution for call in called if call.name in _TOLD_BY and call.agrees_with(values)]
        return sorted({str(account) for account in named if account is not None})

    def _remember(self, signature: Signature, slot: Slot) -> None:
        del self._failed[signature]
        self._read[signature, slot] = None
        if len(self._read) > REMEMBERED:
            self._read.popitem(last=False)


def _values(event: Told) -> dict[str, object]:
    """The event's fields by the IDL's names."""
    return {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
