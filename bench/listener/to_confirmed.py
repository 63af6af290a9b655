"""From a result to its confirmation on a real validator, beside a bare send and signatureSubscribe of the same moments.

A scripted compute ends a task; in that moment a bare sender signs a transfer, sends it and subscribes to its signature.
Ours runs from the answer that holds the result to the log line by which the listener says that it is confirmed.
"""

import asyncio
import json
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Final

from solders.hash import Hash
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer
from solders.transaction import Transaction
from websockets.asyncio.client import ClientConnection, connect

from bench.lines import Goal, Line, percentile
from bench.listener.compute_peer import ComputePeer, Held, compute_peer
from bench.listener.on_chain import assign, listener_on
from bench.machine import machine
from cli.localnet import LocalNetwork
from requester.sending import signed
from shared.ids import TaskKey

TASKS: Final = 60
PAUSE_S: Final = (0.4, 1.4)
"""Between two results, drawn: they fall anywhere in a slot."""
MOST_RATIO: Final = 1.2


async def measure(net: LocalNetwork, *, is_tiny: bool) -> list[Line]:
    count = 3 if is_tiny else TASKS
    async with compute_peer() as compute:
        compute.on_post = lambda _: None
        async with listener_on(net, "confirmed", compute.url) as (listener, key):
            pairs = await assign(net, key.pubkey(), count)
            bare, told_at = await _end_each(net, compute, pairs)
            await asyncio.gather(*(compute.tasks[pair].acknowledged.wait() for pair in pairs))
    confirmed_at = _confirmed_at(listener.child.log)
    ours = [(confirmed_at[pair] - told_at[pair]) * 1000 for pair in pairs]
    unit = f"ms, {machine()}, slots of 400 ms"
    return [
        Line(
            "result to confirmed, p50",
            unit,
            percentile(ours, 50),
            bare=percentile(bare, 50),
            goal=Goal("ratio", "<=", MOST_RATIO),
            limit="The account is read and the signature stored before the send; a notification ends the wait.",
        ),
        Line("result to confirmed, p90", unit, percentile(ours, 90), bare=percentile(bare, 90)),
    ]


async def _end_each(
    net: LocalNetwork, compute: ComputePeer, pairs: list[TaskKey]
) -> tuple[list[float], dict[TaskKey, float]]:
    """Milliseconds of each bare send, and when (Unix seconds) each result was given to the listener."""
    rng = random.Random(1)
    sender = await net.new_key("bare-sender")
    told_at: dict[TaskKey, float] = {}
    async with connect(net.ws_url, proxy=None) as connection, asyncio.TaskGroup() as group:
        subscriptions = Subscriptions(connection)
        reading = group.create_task(subscriptions.read())
        sends = []
        for number, pair in enumerate(pairs):
            held: Held = await compute.posted(pair)
            await asyncio.sleep(rng.uniform(*PAUSE_S))
            blockhash = (await net.rpc.get_latest_blockhash()).blockhash
            held.done.set()
            told_at[pair] = time.time()
            sends.append(group.create_task(_bare(net, subscriptions, sender, blockhash, number)))
        bare = [await send for send in sends]
        reading.cancel()
    return bare, told_at


async def _bare(
    net: LocalNetwork, subscriptions: "Subscriptions", sender: Keypair, blockhash: Hash, number: int
) -> float:
    """Milliseconds from the transaction's making to the notification that it is confirmed."""
    begun_at = time.monotonic()
    lamports = TransferParams(from_pubkey=sender.pubkey(), to_pubkey=sender.pubkey(), lamports=number)
    raw = signed([transfer(lamports)], [sender], blockhash)
    await net.rpc.send_transaction(raw, skip_preflight=True)
    await subscriptions.confirmed(number, str(Transaction.from_bytes(raw).signatures[0]))
    return (time.monotonic() - begun_at) * 1000


class Subscriptions:
    """signatureSubscribe at `confirmed`, any number over one websocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._events: dict[int, asyncio.Event] = {}
        self._by_subscription: dict[int, asyncio.Event] = {}

    async def read(self) -> None:
        async for message in self._connection:
            told = json.loads(message)
            if "id" in told:
                self._by_subscription[told["result"]] = self._events[told["id"]]
            else:
                self._by_subscription[told["params"]["subscription"]].set()

    async def confirmed(self, number: int, signature: str) -> None:
        self._events[number] = asyncio.Event()
        params = [signature, {"commitment": "confirmed"}]
        asked = {"jsonrpc": "2.0", "id": number, "method": "signatureSubscribe", "params": params}
        await self._connection.send(json.dumps(asked))
        await self._events[number].wait()


def _confirmed_at(log: Path) -> dict[TaskKey, float]:
    """Unix seconds, by the listener's log."""
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return {
        TaskKey(line["executionId"], line["taskId"]): datetime.fromisoformat(line["at"]).timestamp()
        for line in lines
        if line["message"] == "confirmed"
    }
