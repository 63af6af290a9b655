"""Transactions that mention the node (or the program): from their logs to the accounts that they tell of."""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.events import FIRST_CPI_INDEX, cpi_events, parse_logs
from listener.chain.feed import Notification
from listener.chain.idl import ExecutionCancelled, Program, TaskAssigned
from listener.chain.rpc import Rpc, SignatureRow, TransactionRead
from listener.chain.transactions import parse_transaction
from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.journal.states import UNSIGNED
from listener.looks import Looks
from shared.errors import EventInvalid, RpcInvalid, RpcRefused, RpcUnavailable
from shared.ids import Slot
from shared.logs import fields

REMEMBERED: Final = 20_000
"""Transactions read lately, so that no list has them read again."""
TRIES: Final = 5
"""Of a backfill at one transaction, before it is left to the listing."""

log = logging.getLogger("listener.mentions")


class Mentions:
    def __init__(
        self,
        rpc: Rpc,
        program: Program,
        node: Pubkey,
        journal: Journal,
        looks: Looks,
        list_soon: asyncio.Event,
    ) -> None:
        self._rpc = rpc
        self._program = program
        self._node = node
        self._journal = journal
        self._looks = looks
        self._list_soon = list_soon
        self._read: OrderedDict[tuple[Signature, Slot], None] = OrderedDict()
        self._failed: Counter[Signature] = Counter()

    async def on_notification(self, told: Notification) -> None:
        """Of a transaction without an event in its log the signature lists tell once more: it may call itself."""
        if told.err is not None:
            return
        parsed = parse_logs(told.logs, str(self._program.program_id))
        if parsed.truncated:
            self._list_soon.set()
        elif parsed.events and await self._act_on(told.signature, told.slot, parsed.events):
            self._remember(told.signature, told.slot)

    async def on_listed(self, row: SignatureRow) -> None:
        """Read the transaction, unless it failed or was read.

        Raises ChainError where the endpoint does not answer, or (the first few times) does not have what it listed.
        """
        if row.err is not None or (row.signature, row.slot) in self._read:
            return
        try:
            found = await self._rpc.get_transaction(row.signature)
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
            called = self._called_events(found)
        except RpcInvalid:
            self._list_soon.set()
            return
        if parsed.truncated:
            self._list_soon.set()
        elif not await self._act_on(row.signature, found.slot, (*parsed.events, *called)):
            self._once_more(row, "an account that a transaction tells of cannot be read")

    def _once_more(self, row: SignatureRow, reason: str) -> None:
        """Keep the cursor where it is for a few tries; no transaction may keep it there for ever."""
        self._failed[row.signature] += 1
        if self._failed[row.signature] < TRIES:
            raise RpcUnavailable(f"{reason}: {row.signature}")
        log.warning(reason, extra=fields(signature=row.signature))
        self._list_soon.set()

    def _called_events(self, found: TransactionRead) -> list[tuple[int, bytes]]:
        """Those that the program wrote by calling itself. Raises RpcInvalid."""
        if not found.inner:
            return []
        transaction = parse_transaction(found.raw)
        keys = (*transaction.static_keys, *found.loaded_addresses)
        events: list[bytes] = []
        for index, called in sorted(found.inner.items()):
            if index < len(transaction.instructions):
                program_index = transaction.instructions[index].program_index
                if program_index < len(keys):
                    events += cpi_events(keys[program_index], called, keys, self._program.program_id)
        return list(enumerate(events, start=FIRST_CPI_INDEX))

    async def _act_on(self, signature: Signature, slot: Slot, events: Sequence[tuple[int, bytes]]) -> bool:
        """Look at each account that an event tells of. False where one could not be read."""
        read = True
        for index, raw in events:
            try:
                event = self._program.decode_event(raw)
            except EventInvalid as error:
                log.info("not an event", extra=fields(signature=signature, error=str(error)))
                continue
            if not isinstance(event, TaskAssigned | ExecutionCancelled) or event.assigned_node != self._node:
                continue
            for account in await self._accounts(event):
                row = EventRow(str(signature), index, slot, type(event).__name__, account)
                if not await self._journal.has_event(row):
                    read = await self._looks.take(account, slot, (row,)) and read
        return read

    async def _accounts(self, event: TaskAssigned | ExecutionCancelled) -> list[str]:
        """The event's account; without a taskId, of each task of that execution that is not signed yet."""
        if event.task_id is not None:
            return [str(self._program.execution_address(event.execution_id, event.task_id))]
        tasks = await self._journal.tasks_in(UNSIGNED)
        return [task.account for task in tasks if task.execution_id == event.execution_id]

    def _remember(self, signature: Signature, slot: Slot) -> None:
        del self._failed[signature]
        self._read[signature, slot] = None
        if len(self._read) > REMEMBERED:
            self._read.popitem(last=False)
