"""The provider's websocket: slots, and logs of what was executed after the subscription, once it is confirmed."""

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import websockets
from solders.pubkey import Pubkey

from tests.simulation.chain import Chain, Landed
from tests.simulation.faults import Faults
from tests.simulation.process import Gate

OPENING_S: Final = 0.05
_LOGS, _SLOTS = 101, 102
"""Numbers of subscriptions."""


class Connection:
    """One open websocket, as the feed uses it."""

    def __init__(self, chain: Chain, gate: Gate) -> None:
        self._chain = chain
        self._gate = gate
        self._messages: deque[str] = deque()
        self._news = asyncio.Event()
        self._is_closed = False
        self.mentions: Pubkey | None = None
        self.logs_since: int | None = None
        self.has_slots = False

    async def send(self, message: str) -> None:
        self._gate.effect("before a subscription")
        self._check_open()
        asked = json.loads(message)
        if asked["method"] == "logsSubscribe":
            self.mentions = Pubkey.from_string(asked["params"][0]["mentions"][0])
            self.logs_since = self._chain.slot
            answer = _LOGS
        else:
            self.has_slots = True
            answer = _SLOTS
        self.push(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer}))

    async def recv(self) -> str:
        while not self._messages:
            self._check_open()
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()

    def push(self, message: str) -> None:
        self._messages.append(message)
        self._news.set()

    def close(self) -> None:
        self._is_closed = True
        self._news.set()

    def _check_open(self) -> None:
        if self._is_closed or self._gate.is_dead:
            raise websockets.ConnectionClosedError(None, None)


class Websocket:
    """One provider's; `connect` opens a connection for the process behind the gate."""

    def __init__(self, chain: Chain, faults: Faults, rng: random.Random, trace: Callable[[str], None]) -> None:
        self._chain = chain
        self._faults = faults
        self._rng = rng
        self._trace = trace
        self._connections: list[Connection] = []
        self._held: list[str] = []
        """Messages that come out of their order."""

    @asynccontextmanager
    async def connect(self, gate: Gate) -> AsyncIterator[Connection]:
        gate.effect("before a websocket")
        await asyncio.sleep(OPENING_S)
        if self._faults.happens("down"):
            raise OSError("refused")
        if self._faults.happens("hang"):
            await asyncio.sleep(10.0)
            raise TimeoutError("no handshake in time")
        connection = Connection(self._chain, gate)
        self._connections.append(connection)
        try:
            yield connection
        finally:
            self._connections.remove(connection)

    def on_slot(self, confirmed: list[Landed]) -> None:
        """After each slot, with what is confirmed since the last."""
        if self._faults.has("silent"):
            return
        for connection in list(self._connections):
            if self._faults.happens("drop") or self._faults.has("down"):
                self._trace("a websocket drops")
                connection.close()
                continue
            self._tell(connection, confirmed)

    def _tell(self, connection: Connection, confirmed: list[Landed]) -> None:
        messages = [
            _logs(landed)
            for landed in confirmed
            if connection.logs_since is not None
            and landed.block.slot > connection.logs_since
            and connection.mentions in landed.transaction.keys
            and not self._faults.happens("missed")
        ]
        if connection.has_slots:
            slot = self._chain.head.slot
            messages.append(
                _notification("slotNotification", _SLOTS, {"slot": slot, "parent": slot - 1, "root": 0})
            )
        for message in self._disturbed(messages):
            connection.push(message)

    def _disturbed(self, messages: list[str]) -> list[str]:
        if self._faults.happens("duplicate"):
            messages = messages * 2
        if self._faults.happens("garbage"):
            messages = [*messages, '{"method": "logsNotification", "params": {"result": []}}']
        if self._faults.happens("reorder"):
            self._held += messages
            return []
        messages, self._held = messages + self._held, []
        return messages


def _logs(landed: Landed) -> str:
    value = {
        "signature": str(landed.transaction.signature),
        "err": landed.err,
        "logs": list(landed.logs),
    }
    return _notification("logsNotification", _LOGS, {"context": {"slot": landed.block.slot}, "value": value})


def _notification(method: str, subscription: int, result: Any) -> str:
    params = {"result": result, "subscription": subscription}
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params})
