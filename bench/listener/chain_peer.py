"""A chain that answers at once what a script puts there: JSON-RPC over HTTP, notifications over a websocket."""

import asyncio
import base64
import json
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from bench.listener.http_peer import Answer, Request, serving

CLOCK: Final = "SysvarC1ock11111111111111111111111111111111"
SLOT_S: Final = 0.4
METHOD_NOT_FOUND: Final = -32601

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """What an address holds."""

    owner: Pubkey
    data: bytes
    lamports: int = 10**9


@dataclass
class ChainPeer:
    """One view of a chain, behind any number of URLs. Every signature that was sent is finalized at once."""

    accounts: dict[str, Held] = field(default_factory=dict)
    rows: list[Document] = field(default_factory=list)
    """What getSignaturesForAddress lists, the newest first."""
    transactions: dict[str, Document] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """By method."""
    first_asked_at: float | None = None
    answer_s: float = 0.0
    """Before each answer."""
    at_once: int = 0
    most_at_once: int = 0
    """Requests that waited for their answers at the same moment."""
    begun_at: float = field(default_factory=time.time)
    first_slot: int = 1_000_000
    connections: set[ServerConnection] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)
    """The slot of each signature that was sent."""
    rpc_url: str = ""
    ws_url: str = ""

    @property
    def slot(self) -> int:
        return self.first_slot + int((time.time() - self.begun_at) / SLOT_S)

    async def answer(self, request: Request) -> Answer:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.answer_s:
                await asyncio.sleep(self.answer_s)
            return self._answer(request)
        finally:
            self.at_once -= 1

    def _answer(self, request: Request) -> Answer:
        asked = json.loads(request.body)
        method = asked["method"]
        self.asked[method] += 1
        self.first_asked_at = self.first_asked_at or request.at
        told: Document = {"jsonrpc": "2.0", "id": asked["id"]}
        if method not in _ANSWERS:
            return Answer(200, told | {"error": {"code": METHOD_NOT_FOUND, "message": "Method not found"}})
        return Answer(200, told | {"result": _ANSWERS[method](self, *asked["params"])})

    async def follow(self, connection: ServerConnection) -> None:
        """Any subscription is granted."""
        self.connections.add(connection)
        try:
            async for message in connection:
                asked = json.loads(message)
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": asked["id"]}))
        finally:
            self.connections.discard(connection)

    def notify(self, frame: bytes) -> None:
        """Write a whole websocket frame to whoever listens, now."""
        for connection in self.connections:
            if connection.state is State.OPEN:
                connection.transport.write(frame)

    async def tick(self) -> None:
        """Slots, for ever."""
        while True:
            seen = {"slot": self.slot, "parent": self.slot - 1, "root": self.slot - 32}
            self.notify(framed(_notification("slotNotification", seen)))
            await asyncio.sleep(SLOT_S)

    def _held(self, address: str) -> Document | None:
        if address == CLOCK:
            held = Held(Pubkey.default(), struct.pack("<QqQQq", self.slot, 0, 0, 0, int(time.time())))
        elif address in self.accounts:
            held = self.accounts[address]
        else:
            return None
        return {
            "lamports": held.lamports,
            "owner": str(held.owner),
            "data": [base64.b64encode(held.data).decode(), "base64"],
            "executable": False,
            "rentEpoch": 0,
            "space": len(held.data),
        }

    def _value(self, value: object) -> Document:
        return {"context": {"slot": self.slot}, "value": value}

    def _listed(self, _address: str, config: Document) -> list[Document]:
        rows = self.rows
        if "before" in config:
            place = next((n for n, row in enumerate(rows) if row["signature"] == config["before"]), len(rows))
            rows = rows[place + 1 :]
        wanted = rows[: config.get("limit", 1000)]
        until = next((n for n, row in enumerate(wanted) if row["signature"] == config.get("until")), len(wanted))
        return wanted[:until]

    def _send(self, raw: str, *_: object) -> str:
        name = str(Signature(base64.b64decode(raw)[1:65]))
        self.sent[name] = self.slot
        return name

    def _status(self, signature: str) -> Document | None:
        if signature not in self.sent:
            return None
        return {
            "slot": self.sent[signature],
            "confirmations": None,
            "err": None,
            "status": {"Ok": None},
            "confirmationStatus": "finalized",
        }


_ANSWERS: Final[dict[str, Callable[..., object]]] = {
    "getGenesisHash": lambda _: str(Hash(bytes([7] * 32))),
    "getSlot": lambda peer, *_: peer.slot,
    "getBlockHeight": lambda peer, *_: peer.slot,
    "getEpochInfo": lambda peer, *_: {
        "absoluteSlot": peer.slot,
        "blockHeight": peer.slot,
        "epoch": 1,
        "slotIndex": 1,
        "slotsInEpoch": 432_000,
    },
    "getBalance": lambda peer, *_: peer._value(10**12),
    "getProgramAccounts": lambda peer, *_: peer._value([]),
    "getSignaturesForAddress": ChainPeer._listed,
    "getTransaction": lambda peer, signature, *_: peer.transactions.get(signature),
    "getAccountInfo": lambda peer, address, *_: peer._value(peer._held(address)),
    "getMultipleAccounts": lambda peer, addresses, *_: peer._value([peer._held(one) for one in addresses]),
    "getMinimumBalanceForRentExemption": lambda _, size, *__: (128 + size) * 6960,
    "getLatestBlockhash": lambda peer, *_: peer._value(
        {"blockhash": str(Hash(peer.slot.to_bytes(32, "little"))), "lastValidBlockHeight": peer.slot + 150}
    ),
    "getSignatureStatuses": lambda peer, names, *_: peer._value([peer._status(name) for name in names]),
    "sendTransaction": ChainPeer._send,
    "getRecentPrioritizationFees": lambda _, *__: [],
}


def framed(document: Document) -> bytes:
    """One message of a server, as the bytes of its frame."""
    return Frame(Opcode.TEXT, json.dumps(document, separators=(",", ":")).encode()).serialize(mask=False)


def logs_notification(signature: str, slot: int, logs: Sequence[str]) -> Document:
    value = {"signature": signature, "err": None, "logs": list(logs)}
    return _notification("logsNotification", {"context": {"slot": slot}, "value": value})


def _notification(method: str, result: Document) -> Document:
    return {"jsonrpc": "2.0", "method": method, "params": {"result": result, "subscription": 1}}


@asynccontextmanager
async def chain_peer() -> AsyncIterator[ChainPeer]:
    """Until the block ends."""
    peer = ChainPeer()
    async with (
        serving(peer.answer) as peer.rpc_url,
        serve(peer.follow, "127.0.0.1", 0, compression=None, ping_interval=None) as server,
        asyncio.TaskGroup() as group,
    ):
        peer.ws_url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        ticking = group.create_task(peer.tick())
        yield peer
        ticking.cancel()
