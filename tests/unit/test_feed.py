"""The feed against a real websocket server on the loopback interface."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from listener.chain.feed import Connected, FeedMessage, LogFeed, Notification, SlotSeen, websocket
from shared.clock import SystemClock
from shared.ids import Slot

NODE = Pubkey([1] * 32)
SIGNATURE = Signature(bytes([1] * 64))
Script = Callable[["Server", ServerConnection], Awaitable[None]]


class Server:
    """Each connection plays the next script; the last one is played for all that come after it."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.asked: list[list[dict[str, Any]]] = []
        """The requests of each connection."""
        self.statuses: list[HTTPStatus] = []
        """For each next handshake: refused with this."""
        self.handshakes = 0
        self.port = 0

    async def on_connection(self, connection: ServerConnection) -> None:
        self.asked.append([])
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        await script(self, connection)

    def on_handshake(self, connection: ServerConnection, _request: object) -> Any:
        self.handshakes += 1
        return connection.respond(self.statuses.pop(0), "") if self.statuses else None

    async def subscriptions(self, connection: ServerConnection, count: int = 2) -> None:
        """Answer so many requests, the last one first."""
        requests = [json.loads(await connection.recv()) for _ in range(count)]
        self.asked[-1] += requests
        for request in reversed(requests):
            await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": 7}))


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[Server]:
    told = Server(*scripts)
    async with serve(told.on_connection, "127.0.0.1", 0, process_request=told.on_handshake) as server:
        told.port = server.sockets[0].getsockname()[1]
        yield told


def feed(server: Server, silence_s: float = 10.0) -> LogFeed:
    return LogFeed(f"ws://127.0.0.1:{server.port}", NODE, silence_s, SystemClock(), random.Random(1))


async def first(feed: LogFeed, count: int) -> list[FeedMessage]:
    messages: list[FeedMessage] = []
    async with asyncio.timeout(30), aclosing(feed.messages()) as told:
        async for message in told:
            messages.append(message)
            if len(messages) == count:
                break
    return messages


def slot(number: object) -> str:
    result = {"slot": number, "parent": 1, "root": 1}
    return json.dumps({"jsonrpc": "2.0", "method": "slotNotification", "params": {"result": result}})


def told(**changed: object) -> str:
    value = {"signature": str(SIGNATURE), "err": None, "logs": ["one", "two"]} | changed
    result = {"context": {"slot": 9}, "value": value}
    return json.dumps({"jsonrpc": "2.0", "method": "logsNotification", "params": {"result": result}})


NOTIFICATION = Notification(Slot(9), SIGNATURE, None, ("one", "two"))


async def well(server: Server, connection: ServerConnection) -> None:
    """A connection as it should be: a slot now and then."""
    await server.subscriptions(connection)
    number = 100
    while True:
        await connection.send(slot(number := number + 1))
        await asyncio.sleep(0.02)


async def closes(server: Server, connection: ServerConnection) -> None:
    await server.subscriptions(connection)


async def test_it_subscribes_to_what_mentions_the_node_at_confirmed_and_to_slots() -> None:
    async with serving(well) as server:
        await first(feed(server), 1)
    logs, slots = server.asked[0]
    assert (logs["method"], logs["params"]) == (
        "logsSubscribe",
        [{"mentions": [str(NODE)]}, {"commitment": "confirmed"}],
    )
    assert slots["method"] == "slotSubscribe"


async def test_it_is_connected_only_after_both_answers() -> None:
    answered = asyncio.Event()

    async def one_by_one(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection, 1)
        await asyncio.sleep(0.2)
        answered.set()
        await server.subscriptions(connection, 1)
        await connection.wait_closed()

    async with serving(one_by_one) as server:
        assert await first(feed(server), 1) == [Connected()]
        assert answered.is_set()


async def test_it_tells_logs_and_newer_slots_in_their_order() -> None:
    async def script(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        for message in (slot(5), told(), slot(5), slot(4), told(err="AccountInUse"), slot(7)):
            await connection.send(message)
        await connection.wait_closed()

    async with serving(script) as server:
        messages = await first(feed(server), 5)
    assert messages[:3] == [Connected(), SlotSeen(Slot(5)), NOTIFICATION]
    assert isinstance(messages[3], Notification) and messages[3].err is not None
    assert messages[4] == SlotSeen(Slot(7))


async def test_after_a_close_it_connects_anew_and_says_so() -> None:
    async with serving(closes, well) as server:
        messages = await first(feed(server), 3)
    assert messages[:2] == [Connected(), Connected()] and len(server.asked) == 2


async def test_after_a_reset_it_connects_anew() -> None:
    async def resets(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        connection.transport.abort()

    async with serving(resets, well) as server:
        assert await first(feed(server), 2) == [Connected(), Connected()]


@pytest.mark.parametrize("status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS])
async def test_a_handshake_that_is_refused_is_tried_again(status: HTTPStatus) -> None:
    async with serving(well) as server:
        server.statuses = [status, status]
        assert await first(feed(server), 1) == [Connected()]
        assert server.handshakes == 3


async def test_an_endpoint_that_is_not_there_yet_is_waited_for() -> None:
    async with serving(well) as server:
        port = server.port
    waiting = asyncio.ensure_future(first(feed(server), 1))
    await asyncio.sleep(0.3)
    async with serve(server.on_connection, "127.0.0.1", port):
        assert await waiting == [Connected()]


async def test_a_silent_connection_is_given_up_although_its_pongs_come() -> None:
    async def silent(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        await connection.wait_closed()  # pings are answered all the while

    async with serving(silent, well) as server:
        assert await first(feed(server, silence_s=0.3), 2) == [Connected(), Connected()]


async def test_a_connection_whose_slot_does_not_rise_is_given_up_although_messages_come() -> None:
    async def stuck(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        while True:
            await connection.send(slot(5))
            await connection.send(told())
            await asyncio.sleep(0.02)

    async with serving(stuck, well) as server:
        followed = feed(server, silence_s=0.4)
        connections = 0
        async with asyncio.timeout(30), aclosing(followed.messages()) as messages:
            async for message in messages:
                connections += isinstance(message, Connected)
                if connections == 2:
                    break


async def test_a_connection_that_never_answers_is_given_up() -> None:
    async def mute(_server: Server, connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serving(mute, well) as server:
        assert await first(feed(server, silence_s=0.3), 1) == [Connected()]


@pytest.mark.parametrize(
    "message",
    [
        "not JSON",
        "[1, 2]",
        b"\xff\xfe",
        "[" * 100_000,
        slot("high"),
        '{"method": "logsNotification", "params": {"result": {"context": {"slot": 1}, "value": {"signature": "'
        + "1" * 64
        + '", "logs": []}}}}',  # without `err`: whether it failed is not known
        slot(-1),
        told(signature="short"),
        told(logs=[1]),
        told(err=7),
        '{"method": "logsNotification"}',
        '{"method": "slotNotification", "params": []}',
        '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}',
        '{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "no"}}',
    ],
)
async def test_a_malformed_message_does_not_end_it_for_ever(message: str | bytes) -> None:
    async def malformed(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        await connection.send(message, text=isinstance(message, str))
        await connection.wait_closed()

    async with serving(malformed, well) as server:
        messages = await first(feed(server), 3)
    assert messages[:2] == [Connected(), Connected()] and isinstance(messages[2], SlotSeen)


@pytest.mark.parametrize("message", ['{"id": [1]}', '{"id": {}}', '{"id": 1, "result": 9}', "{}", '{"method": 3}'])
async def test_what_it_did_not_ask_for_is_left_out(message: str) -> None:
    async def script(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        await connection.send(message)
        await connection.send(slot(5))
        await connection.wait_closed()

    async with serving(script) as server:
        assert await first(feed(server), 2) == [Connected(), SlotSeen(Slot(5))]


async def test_it_knows_how_old_the_last_slot_is() -> None:
    async with serving(well) as server:
        followed = feed(server)
        assert followed.slot_age_s() is None
        await first(followed, 2)
        age_s = followed.slot_age_s()
    assert age_s is not None and 0 <= age_s < 10


async def test_a_message_in_fragments_may_be_given_up_at_any_moment() -> None:
    async def begin(server: Server, connection: ServerConnection) -> None:
        async def fragments() -> AsyncIterator[str]:
            yield "{"
            await asyncio.sleep(30)

        await connection.send(fragments())

    async with serving(begin) as server, websocket(f"ws://127.0.0.1:{server.port}") as connection:
        assert isinstance(connection, ClientConnection)
        receiving = asyncio.create_task(connection.recv())
        await asyncio.sleep(0.2)
        connection.data_received(Frame(Opcode.CONT, b"1", fin=False).serialize(mask=False))
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
