"""One websocket: logs that mention an address, and the slots by which a silent connection is told."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from solders.pubkey import Pubkey
from solders.signature import Signature
from websockets import Data
from websockets.asyncio.client import ClientConnection, connect

from listener.chain import answers
from listener.chain import json_values as read
from listener.chain.answers import TransactionError
from listener.chain.json_values import member
from shared.errors import RpcInvalid
from shared.ids import Slot
from shared.urls import is_loopback

OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 1.0
MAX_MESSAGE_BYTES: Final = 4 << 20
"""Far above a notification: logs end at 10 kB."""
_LOGS, _SLOTS = 1, 2
"""Ids of the two subscriptions' requests."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A transaction that mentions the address, at `confirmed`. The logs are what the endpoint says."""

    slot: Slot
    signature: Signature
    err: TransactionError | None
    logs: tuple[str, ...]


class Hearer(Protocol):
    """Who is told what a connection brings. None of it waits: nothing is read meanwhile."""

    def on_standing(self, processed: Slot) -> None:
        """Both subscriptions stand, and this slot came after them: what is executed from now on is told."""

    def on_slot(self, slot: Slot, root: Slot) -> None:
        """A newer slot than any before on this connection."""

    def on_logs(self, result: object) -> None:
        """A notification, not yet read. Raises RpcInvalid where it is none."""


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


async def follow(connection: Connection, mentions: Pubkey, silence_s: float, hearer: Hearer) -> None:
    """Subscribe, then tell what comes, until it ends.

    Raises TimeoutError where the slot does not rise within `silence_s`, RpcInvalid where a subscription is refused or
    a message cannot be read, and what the connection raises.
    """
    try:
        async with asyncio.timeout(silence_s) as silence:
            await connection.send(
                _request(_LOGS, "logsSubscribe", {"mentions": [str(mentions)]}, {"commitment": "confirmed"})
            )
            await connection.send(_request(_SLOTS, "slotSubscribe"))
            await _read(connection, silence, silence_s, hearer)
    except TimeoutError:
        raise TimeoutError(f"no newer slot within {silence_s:g} s") from None


async def _read(connection: Connection, silence: asyncio.Timeout, silence_s: float, hearer: Hearer) -> None:
    loop = asyncio.get_running_loop()
    newest = Slot(0)
    awaited = {_LOGS, _SLOTS}
    stands = False
    while True:
        document = _parsed(await connection.recv())
        match document.get("method"):
            case "logsNotification":
                hearer.on_logs(_result(document))
            case "slotNotification":
                slot, root = _slots(document)
                if slot <= newest:
                    continue
                newest = slot
                silence.reschedule(loop.time() + silence_s)
                hearer.on_slot(slot, root)
                if not awaited and not stands:
                    stands = True
                    hearer.on_standing(slot)
            case _:
                awaited -= _answered(document)


def notification(result: object) -> Notification:
    """Raises RpcInvalid."""
    what = "logsNotification"
    value = member(result, "value", what)
    return Notification(
        slot=read.context_slot(result, what),
        signature=read.signature(member(value, "signature", what), what),
        err=answers.transaction_error(read.stated(value, "err", what)),
        logs=read.log_lines(member(value, "logs", what), what),
    )


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


def _answered(document: dict[str, object]) -> set[int]:
    """The subscription that was answered, if any. Raises RpcInvalid where it was refused."""
    if document.get("error") is not None:
        raise RpcInvalid(f"a subscription was refused: {document['error']!a:.300}")
    number = document.get("id")
    return {number} if isinstance(number, int) else set()


def _slots(document: dict[str, object]) -> tuple[Slot, Slot]:
    what = "slotNotification"
    result = _result(document)
    return read.slot(member(result, "slot", what), "slot"), read.slot(member(result, "root", what), "root")


def _result(document: dict[str, object]) -> object:
    return member(member(document, "params", "a notification"), "result", "a notification")
