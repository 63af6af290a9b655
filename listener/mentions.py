"""Transactions that mention the node (or the program): from their logs to the accounts that they tell of."""

import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.allowance import Allowance
from listener.chain import json_values as read
from listener.chain.budget import Urgency
from listener.chain.calls import called_events
from listener.chain.endpoints import Endpoints
from listener.chain.events import parse_logs
from listener.chain.feed import Notification, notification
from listener.chain.idl import Program
from listener.chain.json_values import invalid, member, stated
from listener.chain.rpc import SignatureRow, TransactionRead
from listener.chain.sieve import Sieve
from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.leads import Leads, Told
from listener.looks import Looks
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ChainError, RpcInvalid, RpcRefused, RpcUnavailable
from shared.ids import Slot
from shared.logs import fields

REMEMBERED: Final = 50_000
"""Transactions heard of lately, so that no list has them read: more than a busy program has between two lists."""
MAX_SIGNATURE: Final = 88
"""Characters of 64 bytes in base58."""
TRIES: Final = 5
"""At one transaction, before it is left to the listing."""
RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)

log = logging.getLogger("listener.mentions")


@dataclass(frozen=True, slots=True)
class OtherWays:
    """Where what is not read here is left to."""

    list_soon: Callable[[], None]
    can_list: Callable[[], bool]
    """Whether the listing finds work at all; where not, each transaction is waited for."""
    is_own: Callable[[str], bool]
    """Tells the lander of a transaction; whether it is one of ours, which tells of no work."""


class Mentions:
    def __init__(
        self,
        endpoints: Endpoints,
        program: Program,
        node: Pubkey,
        journal: Journal,
        looks: Looks,
        allowance: Allowance,
        other_ways: OtherWays,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._endpoints = endpoints
        self._program = program
        self._sieve = Sieve(program.program_id, node)
        self._journal = journal
        self._leads = Leads(program, node, journal)
        self._looks = looks
        self._allowance = allowance
        self._other_ways = other_ways
        self._clock = clock
        self._rng = rng
        self._known: OrderedDict[tuple[str, Slot], None] = OrderedDict()
        self._failed: Counter[str] = Counter()

    def sift(self, result: object) -> Notification | None:
        """A notification, where it may tell of work: what does not is only remembered. Raises RpcInvalid."""
        what = "logsNotification"
        value = member(result, "value", what)
        signature, logs = member(value, "signature", what), member(value, "logs", what)
        if not isinstance(signature, str) or len(signature) > MAX_SIGNATURE:
            raise invalid(what, "a signature in base58", signature)
        is_own = self._other_ways.is_own(signature)
        if not is_own and stated(value, "err", what) is None and self._may_tell(logs):
            return notification(result)
        self._remember(signature, read.context_slot(result, what))
        return None

    def _may_tell(self, logs: object) -> bool:
        try:
            return self._sieve.may_tell([] if logs is None else read.sequence(logs, "logs"))  # type: ignore[arg-type]
        except TypeError as error:
            raise invalid("logs", "a list of texts", logs) from error

    async def on_notification(self, told: Notification) -> None:
        """Look at each account that it tells of; where its log alone does not say which, read the transaction too."""
        parsed = parse_logs(told.logs, str(self._program.program_id))
        events = self._leads.events(told.signature, parsed.events)
        says_all = not parsed.truncated and not parsed.calls_itself
        if says_all and all(self._leads.is_enough(event) for _, event in events):
            done = await self._act_on(told.signature, told.slot, events, None)
        else:
            done = await self._read_told(told)
        if done:
            self._remember(str(told.signature), told.slot)

    async def _read_told(self, told: Notification) -> bool:
        """Read the transaction, as soon as it is there. False: it is left to the lists."""
        for failures in range(TRIES):
            if not self._allowance.take():
                break
            with suppress(ChainError):
                found = await self._transaction(told.signature)
                if found is not None:
                    return found.err is not None or await self._act_on_transaction(told.signature, found)
            await self._clock.sleep(RETRY.delay_s(failures, self._rng))
        self._other_ways.list_soon()
        return False

    async def on_listed(self, row: SignatureRow) -> None:
        """Read the transaction, unless it failed or was heard of, or there are more than may be read.

        Raises ChainError where the endpoint does not answer, or (the first few times) does not have what it listed.
        """
        if row.err is not None or (str(row.signature), row.slot) in self._known:
            return
        if not self._allowance.take():
            if self._other_ways.can_list():
                self._other_ways.list_soon()
                return
            await self._allowance.wait()
        try:
            found = await self._transaction(row.signature)
        except (RpcInvalid, RpcRefused) as error:
            # Passed over: whoever wrote it may have made it unreadable. The listing finds its account.
            log.info("a transaction cannot be read", extra=fields(signature=row.signature, error=str(error)))
            self._other_ways.list_soon()
        else:
            if found is None:
                self._once_more(row, "the endpoint does not have a transaction that it listed")
            elif found.err is None and not await self._act_on_transaction(row.signature, found):
                self._once_more(row, "an account that a transaction tells of cannot be read")
        self._remember(str(row.signature), row.slot)

    async def _transaction(self, signature: Signature) -> TransactionRead | None:
        return await self._endpoints.ask(lambda rpc: rpc.get_transaction(signature), Urgency.SEARCH)

    async def _act_on_transaction(self, signature: Signature, found: TransactionRead) -> bool:
        """Look at each account that it tells of. False where one could not be read."""
        parsed = parse_logs(found.logs, str(self._program.program_id))
        try:
            raws = (*parsed.events, *called_events(self._program.program_id, found))
            events = self._leads.events(signature, raws)
            accounts = await self._leads.called(found) if parsed.truncated else []
            if events or accounts:
                self._allowance.give_back()
            elif parsed.truncated:
                self._other_ways.list_soon()
            done = await self._act_on(signature, found.slot, events, found)
        except RpcInvalid:
            self._other_ways.list_soon()
            return True
        return all([await self._looks.take(account, found.slot) for account in accounts]) and done

    def _once_more(self, row: SignatureRow, reason: str) -> None:
        """Keep the cursor where it is for a few tries; no transaction may keep it there for ever."""
        self._failed[str(row.signature)] += 1
        if self._failed[str(row.signature)] < TRIES:
            raise RpcUnavailable(f"{reason}: {row.signature}")
        log.warning(reason, extra=fields(signature=row.signature))
        self._other_ways.list_soon()

    async def _act_on(
        self,
        signature: Signature,
        slot: Slot,
        events: Sequence[tuple[int, Told]],
        found: TransactionRead | None,
    ) -> bool:
        """Look at each account that an event tells of. False where one could not be read. Raises RpcInvalid."""
        is_read = True
        for index, event in events:
            for account in await self._leads.accounts(event, found):
                row = EventRow(str(signature), index, slot, type(event).__name__, account)
                if not await self._journal.has_event(row):
                    is_read = await self._looks.take(account, slot, (row,)) and is_read
        return is_read

    def _remember(self, signature: str, slot: Slot) -> None:
        del self._failed[signature]
        self._known[signature, slot] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
