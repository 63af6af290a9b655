"""From an event, or from a transaction, to the accounts that it tells of."""

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.calls import Call, calls
from listener.chain.idl import ExecutionCancelled, Program, TaskAssigned
from listener.chain.rpc import TransactionRead
from listener.journal.journal import Journal
from listener.journal.states import UNSIGNED
from shared.errors import EventInvalid, InvalidId
from shared.logs import fields

Told = TaskAssigned | ExecutionCancelled
"""The events that lead to an account."""
CANCEL: Final = "cancel_execution"
TOLD_BY: Final = frozenset({"assign_task", CANCEL})
"""The instructions that write them."""

log = logging.getLogger("listener.mentions")


class Leads:
    def __init__(self, program: Program, node: Pubkey, journal: Journal) -> None:
        self._program = program
        self._node = node
        self._journal = journal

    def events(self, signature: Signature, raws: Sequence[tuple[int, bytes]]) -> list[tuple[int, Told]]:
        """Those that are about this node, with their numbers."""
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

    def is_enough(self, event: Told) -> bool:
        """Whether the event alone leads to its account."""
        return event.task_id is None or self._program.address_of(_values(event)) is not None

    async def accounts(self, event: Told, found: TransactionRead | None) -> list[str]:
        """The event's account; without a taskId, of each task of that execution that is not signed yet.

        Where the IDL has no rule for the address, the one that an instruction of the transaction names.
        Raises RpcInvalid where the transaction cannot be parsed.
        """
        if event.task_id is None:
            return await self._of_execution(event.execution_id)
        values = _values(event)
        address = self._program.address_of(values)
        if address is not None:
            return [str(address)]
        called = () if found is None else calls(self._program, found)
        named = [call.execution for call in called if call.name in TOLD_BY and call.agrees_with(values)]
        return sorted({str(account) for account in named if account is not None})

    async def called(self, found: TransactionRead) -> list[str]:
        """The accounts that a transaction's instructions are about, where its log does not say all.

        Raises RpcInvalid where the transaction cannot be parsed.
        """
        accounts: set[str] = set()
        for call in calls(self._program, found):
            node = call.accounts.get("assigned_node", call.args.get("assigned_node", self._node))
            if call.name in TOLD_BY and node == self._node:
                accounts.update(await self._of_call(call))
        return sorted(accounts)

    async def _of_call(self, call: Call) -> list[str]:
        if call.execution is not None:
            return [str(call.execution)]
        if call.name == CANCEL and "task_id" not in call.args:
            return await self._of_execution(call.args.get("execution_id"))
        address = None
        with suppress(InvalidId):
            address = self._program.address_of(call.args)
        return [] if address is None else [str(address)]

    async def _of_execution(self, execution_id: object) -> list[str]:
        tasks = await self._journal.tasks_in(UNSIGNED)
        return [task.account for task in tasks if task.execution_id == execution_id]


def _values(event: Told) -> dict[str, object]:
    """The event's fields by the IDL's names."""
    return {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
