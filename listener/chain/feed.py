"""Notifications by websocket: logs that mention an address, and the slots by which a silent connection is told.

A connection that is closed, refused, or open without advancing slots is opened anew; whoever follows the feed is told
of each new one, since what was written meanwhile was not notified.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import websockets
from solders.pubkey import Pubkey
from solders.signature import Signature
from websockets import Data
from websockets.asyncio.client import ClientConnection, connect

from listener.chain import answers
from listener.chain import json_values as read
from listener.chain.answers import TransactionError
from listener.chain.json_values import member
from listener.chain.slot_pace import SlotPace
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import RpcInvalid
from shared.ids import Slot
from shared.logs import fields
from shared.urls import is_loopback, shown

RECONNECT: Final = Backoff(base_s=0.2, cap_s=20.0)
OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 1.0
MAX_MESSAGE_BYTES: Final = 4 << 20
"""Far above a notification: logs end at 10 kB."""
_LOGS, _SLOTS = 1, 2
"""Ids of the two subscriptions' requests."""

log = logging.getLogger("listener.feed")


@dataclass(frozen=True, slots=True)
class Connected:
    """Both subscriptions stand: from now on logs are notified."""


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """A newer slot than any before on this connection."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Notification:
    """A transaction that mentions the address, at `confirmed`. The logs are what the endpoint says."""

    slot: Slot
    signature: Signature
    err: TransactionError | None
    logs: tuple[str, ...]


FeedMessage = Connected | SlotSeen | Notification


class Connection(Protocol):
    """An open websocket. Both raise what `websockets` raises where it is closed."""

    async def send(self, message: str) -> None: ...

    async def recv(self) -> str | bytes: ...


Connect = Callable[[str], AbstractAsyncContextManager[Connection]]
"""Opens a websocket to a URL, and closes it after the block."""


class _Websocket(ClientConnection):
    async def recv(self, decode: bool | None = None) -> Data:  # type: ignore[override] # without its overloads
        try:
            return await super().recv(decode)
        except AssertionError as error:
            # Where the library's own `recv` is cancelled in the moment in which one more fragment of a message comes.
            raise asyncio.CancelledError from error


def websocket(url: str) -> AbstractAsyncContextManager[Connection]:
    return connect(
        url,
        create_connection=_Websocket,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        max_size=MAX_MESSAGE_BYTES,
        proxy=None if is_loopback(url) else True,
    )


class LogFeed:
    def __init__(
        self,
        url: str,
        mentions: Pubkey,
        silence_s: float,
        clock: Clock,
        rng: random.Random,
        connect: Connect = websocket,
    ) -> None:
        self._url = url
        self._connect = connect
        self._mentions = mentions
        self._silence_s = silence_s
        self._clock = clock
        self._rng = rng
        self._slot = Slot(0)
        self._advanced_at: float | None = None
        self._pace = SlotPace(clock)

    def slot_age_s(self) -> float | None:
        """Seconds since the slot last rose; None where none was seen yet."""
        return None if self._advanced_at is None else self._clock.monotonic() - self._advanced_at

    def seconds_per_slot(self) -> float | None:
        """None while too few slots were seen."""
        return self._pace.seconds()

    async def messages(self) -> AsyncIterator[FeedMessage]:
        """For ever: what comes, and `Connected` before what comes on each new connection."""
        failures = 0
        while True:
            try:
                async with self._connect(self._url) as connection:
                    async for message in self._on(connection):
                        failures = 0
                        yield message
            except (OSError, TimeoutError, websockets.WebSocketException, RpcInvalid) as error:
                reason = str(error) or type(error).__name__
                log.warning("the websocket is opened anew", extra=fields(url=shown(self._url), reason=reason))
            await self._clock.sleep(RECONNECT.delay_s(failures, self._rng))
            failures += 1

    async def _on(self, connection: Connection) -> AsyncIterator[FeedMessage]:
        """What one connection brings. Raises TimeoutError where the slot does not rise within the time allowed."""
        await connection.send(
            _request(_LOGS, "logsSubscribe", {"mentions": [str(self._mentions)]}, {"commitment": "confirmed"})
        )
        await connection.send(_request(_SLOTS, "slotSubscribe"))
        self._slot = Slot(0)
        awaited = {_LOGS, _SLOTS}
        silent_at = self._clock.monotonic() + self._silence_s
        while True:
            try:
                async with asyncio.timeout(silent_at - self._clock.monotonic()):
                    document = _parsed(await connection.recv())
            except TimeoutError:
                raise TimeoutError(f"no newer slot within {self._silence_s:g} s") from None
            if document.get("error") is not None:
                raise RpcInvalid(f"a subscription was refused: {document['error']!a:.300}")
            answered = document.get("id")
            if isinstance(answered, int) and answered in awaited:
                awaited.remove(answered)
                if not awaited:
                    yield Connected()
            message = _message(document)
            if isinstance(message, SlotSeen):
                if message.slot <= self._slot:
                    continue
                self._slot = message.slot
                self._pace.note(message.slot)
                self._advanced_at = self._clock.monotonic()
                silent_at = self._advanced_at + self._silence_s
            if message is not None:
                yield message


def _request(number: int, method: str, *params: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)})


def _parsed(text: str | bytes) -> dict[str, object]:
    """Raises RpcInvalid where it is not a JSON object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RpcInvalid("the websocket sent what is not JSON") from error
    if not isinstance(document, dict):
        raise RpcInvalid("the websocket sent JSON that is not an object")
    return document


def _message(document: dict[str, object]) -> Notification | SlotSeen | None:
    """A notification as a value; None for what is none, or none that the node knows. Raises RpcInvalid."""
    match document.get("method"):
        case "slotNotification":
            return SlotSeen(read.slot(member(_result(document), "slot", "slotNotification"), "slot"))
        case "logsNotification":
            return _notification(_result(document))
        case _:
            return None


def _result(document: dict[str, object]) -> object:
    return member(member(document, "params", "a notification"), "result", "a notification")


def _notification(result: object) -> Notification:
    what = "logsNotification"
    value = member(result, "value", what)
    return Notification(
        slot=read.context_slot(result, what),
        signature=read.signature(member(value, "signature", what), what),
        err=answers.transaction_error(read.stated(value, "err", what)),
        logs=read.log_lines(member(value, "logs", what), what),
    )
