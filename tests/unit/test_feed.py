"""The feeds against real websocket servers on the loopback interface."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from listener.chain.endpoint import Endpoint
from listener.chain.feed import Notification, notification, websocket
from listener.chain.feeds import Feeds
from listener.chain.tip import Tip
from shared.clock import SystemClock
from shared.ids import Slot
from tests.unit.listener_world import ScriptedRpc, endpoints_of

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
        self.retry_after: str | None = None
        self.handshakes = 0
        self.open = 0
        self.port = 0

    async def on_connection(self, connection: ServerConnection) -> None:
        self.asked.append([])
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.open += 1
        try:
            await script(self, connection)
        except ConnectionClosed:
            pass  # by the feed
        finally:
            self.open -= 1

    def on_handshake(self, connection: ServerConnection, _request: object) -> Any:
        self.handshakes += 1
        if not self.statuses:
            return None
        response = connection.respond(self.statuses.pop(0), "")
        if self.retry_after is not None:
            response.headers["Retry-After"] = self.retry_after
        return response

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


@contextmanager
def away() -> Iterator[tuple[Server, socket.socket]]:
    """A server that refuses who connects, until somebody serves on its port, which nobody else can take meanwhile."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        told = Server(well)
        told.port = port.getsockname()[1]
        yield told, port


def feed(*servers: Server, silence_s: float = 10.0, endpoints: tuple[Endpoint, ...] | None = None) -> Feeds:
    urls = tuple(f"ws://127.0.0.1:{server.port}" for server in servers)
    known = endpoints or endpoints_of(*(ScriptedRpc() for _ in servers)).all
    return Feeds(urls, known, websocket, silence_s, SystemClock(), random.Random(1))


Heard = tuple[str, object]


class Hearer:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Heard] = asyncio.Queue()

    def on_standing(self, processed: Slot) -> None:
        self.heard.put_nowait(("stands", processed))

    def on_slot(self, slot: Slot, root: Slot) -> None:
        self.heard.put_nowait(("slot", slot))
        assert root == 1

    def on_logs(self, result: object) -> None:
        self.heard.put_nowait(("logs", notification(result)))


@asynccontextmanager
async def following(feeds: Feeds) -> AsyncIterator[asyncio.Queue[Heard]]:
    hearer = Hearer()
    life = asyncio.ensure_future(feeds.run(NODE, hearer))
    try:
        async with asyncio.timeout(30):
            yield hearer.heard
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life


async def first(feeds: Feeds, count: int, *kinds: str) -> list[Heard]:
    """So many of what is told, of these kinds only where any is given."""
    messages: list[Heard] = []
    async with following(feeds) as heard:
        while len(messages) < count:
            message = await heard.get()
            if not kinds or message[0] in kinds:
                messages.append(message)
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
    await connection.send(slot(99))


async def test_it_subscribes_to_what_mentions_the_node_at_confirmed_and_to_slots() -> None:
    async with serving(well) as server:
        await first(feed(server), 1, "stands")
    logs, slots = server.asked[0]
    assert (logs["method"], logs["params"]) == (
        "logsSubscribe",
        [{"mentions": [str(NODE)]}, {"commitment": "confirmed"}],
    )
    assert slots["method"] == "slotSubscribe"


async def test_it_stands_with_the_first_slot_after_both_answers() -> None:
    async def one_by_one(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection, 1)
        await connection.send(slot(7))
        await server.subscriptions(connection, 1)
        await connection.send(slot(7))
        await connection.send(slot(8))
        await connection.wait_closed()

    async with serving(one_by_one) as server:
        assert await first(feed(server), 3) == [("slot", 7), ("slot", 8), ("stands", 8)]


async def test_it_tells_logs_and_newer_slots_in_their_order() -> None:
    async def script(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        for message in (slot(5), told(), slot(5), slot(4), told(err="AccountInUse"), slot(7)):
            await connection.send(message)
        await connection.wait_closed()

    async with serving(script) as server:
        messages = await first(feed(server), 4, "slot", "logs")
    assert messages[:2] == [("slot", 5), ("logs", NOTIFICATION)]
    assert isinstance(messages[2][1], Notification) and messages[2][1].err is not None
    assert messages[3] == ("slot", 7)


async def test_after_a_close_it_connects_anew_and_says_so() -> None:
    async with serving(closes, well) as server:
        await first(feed(server), 2, "stands")
    assert len(server.asked) == 2


async def test_after_a_reset_it_connects_anew() -> None:
    async def resets(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        connection.transport.abort()

    async with serving(resets, well) as server:
        await first(feed(server), 1, "stands")
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS])
async def test_a_handshake_that_is_refused_is_tried_again(status: HTTPStatus) -> None:
    async with serving(well) as server:
        server.statuses = [status, status]
        await first(feed(server), 1, "stands")
        assert server.handshakes == 3


async def test_a_refused_handshake_that_names_a_time_is_not_tried_before_it() -> None:
    async with serving(well) as server:
        server.statuses = [HTTPStatus.TOO_MANY_REQUESTS]
        server.retry_after = "2"
        began = asyncio.get_running_loop().time()
        await first(feed(server), 1, "stands")
        assert asyncio.get_running_loop().time() - began >= 2.0


async def test_an_endpoint_that_is_not_there_yet_is_waited_for() -> None:
    with away() as (server, port):
        waiting = asyncio.ensure_future(first(feed(server), 1, "stands"))
        await asyncio.sleep(0.3)
        async with serve(server.on_connection, sock=port):
            await waiting


async def test_a_silent_connection_is_given_up_although_its_pongs_come() -> None:
    async def silent(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        await connection.wait_closed()  # pings are answered all the while

    async with serving(silent, well) as server:
        await first(feed(server, silence_s=0.3), 1, "stands")
    assert len(server.asked) >= 2


async def test_a_connection_whose_slot_does_not_rise_is_given_up_although_messages_come() -> None:
    async def stuck(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        while True:
            await connection.send(slot(5))
            await connection.send(told())
            await asyncio.sleep(0.02)

    async with serving(stuck) as server:
        await first(feed(server, silence_s=0.4), 2, "stands")


async def test_a_connection_that_never_answers_is_given_up() -> None:
    async def mute(_server: Server, connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serving(mute, well) as server:
        await first(feed(server, silence_s=0.3), 1, "stands")


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
        await first(feed(server), 1, "stands")
    assert len(server.asked) == 2


@pytest.mark.parametrize("message", ['{"id": [1]}', '{"id": {}}', '{"id": 1, "result": 9}', "{}", '{"method": 3}'])
async def test_what_it_did_not_ask_for_is_left_out(message: str) -> None:
    async def script(server: Server, connection: ServerConnection) -> None:
        await server.subscriptions(connection)
        await connection.send(message)
        await connection.send(slot(5))
        await connection.wait_closed()

    async with serving(script) as server:
        assert await first(feed(server), 2) == [("slot", 5), ("stands", 5)]


# Several endpoints.


async def test_only_the_preferred_one_is_opened_while_it_is_well() -> None:
    async with serving(well) as preferred, serving(well) as second:
        await first(feed(preferred, second), 10)
    assert (preferred.handshakes, second.handshakes) == (1, 0)


async def test_where_the_preferred_one_is_away_the_next_is_followed_at_once() -> None:
    with away() as (gone, _):
        async with serving(well) as second:
            feeds = feed(gone, second)
            async with following(feeds) as heard:
                while (await heard.get())[0] != "stands":
                    pass
                assert feeds.in_use == "endpoint 1"


async def test_one_that_hangs_at_first_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.chain.feeds.PATIENCE_S", 0.2)

    async def mute(_server: Server, connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serving(mute) as hangs, serving(well) as second:
        await first(feed(hangs, second), 1, "stands")


async def test_run_again_it_waits_for_nothing_of_the_time_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.chain.feeds.PATIENCE_S", 60.0)

    async def mute(_server: Server, connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serving(well, mute) as preferred, serving(well) as second:
        feeds = feed(preferred, second, silence_s=60.0)
        await first(feeds, 1, "stands")
        monkeypatch.setattr("listener.chain.feeds.PATIENCE_S", 0.2)
        await first(feeds, 1, "stands")
        assert (preferred.handshakes, second.handshakes) == (2, 1)


async def test_the_preferred_one_is_followed_again_once_it_stands_and_the_other_left_only_then() -> None:
    returns = asyncio.Event()

    async def slow(server: Server, connection: ServerConnection) -> None:
        await returns.wait()
        await well(server, connection)

    async with serving(closes, slow) as preferred, serving(well) as second:
        feeds = feed(preferred, second)
        async with following(feeds) as heard:
            while feeds.in_use != "endpoint 1":
                await heard.get()
            while preferred.handshakes < 2:
                await heard.get()
            assert (
                second.open == 1 and feeds.in_use == "endpoint 1"
            )  # the preferred one is open, and says nothing yet
            returns.set()
            while feeds.in_use != "endpoint 0":
                await heard.get()
            while second.open:
                await heard.get()
        assert second.handshakes == 1


async def test_an_endpoint_that_is_out_is_left_and_not_opened() -> None:
    endpoints = endpoints_of(ScriptedRpc(), ScriptedRpc()).all
    async with serving(well) as preferred, serving(well) as second:
        feeds = feed(preferred, second, endpoints=endpoints)
        async with following(feeds) as heard:
            while feeds.in_use != "endpoint 0":
                await heard.get()
            endpoints[0].take_out("it was outvoted")
            while feeds.in_use != "endpoint 1":
                await heard.get()
        assert preferred.handshakes == 1


async def test_the_cluster_is_checked_anew_with_each_connection_and_one_of_another_is_left() -> None:
    rpcs = [ScriptedRpc(), ScriptedRpc()]
    endpoints = endpoints_of(*rpcs).all
    for endpoint in endpoints:
        endpoint.belongs_to(rpcs[0].genesis_hash)
    async with serving(closes, well) as preferred, serving(well) as second:
        feeds = feed(preferred, second, endpoints=endpoints)
        async with following(feeds) as heard:
            while feeds.in_use != "endpoint 0":
                await heard.get()
            rpcs[0].genesis_hash = "another"
            while feeds.in_use != "endpoint 1":
                await heard.get()
    assert endpoints[0].is_out and not endpoints[1].is_out


async def test_the_tip_knows_how_old_the_last_slot_is_and_wakes_who_waits_for_a_root() -> None:
    tip = Tip(SystemClock())
    assert tip.age_s() is None
    waiting = asyncio.ensure_future(tip.root_reaches(Slot(70)))
    for root in (69, 69, 71):
        assert not waiting.done()
        tip.see(Slot(100), Slot(root))
        await asyncio.sleep(0)
    await waiting
    age_s = tip.age_s()
    assert age_s is not None and 0 <= age_s < 10


async def test_a_message_in_fragments_may_be_given_up_at_any_moment() -> None:
    async def begin(server: Server, connection: ServerConnection) -> None:
        async def fragments() -> AsyncIterator[str]:
            yield "{"
            await connection.wait_closed()

        await connection.send(fragments())

    async with serving(begin) as server, websocket(f"ws://127.0.0.1:{server.port}") as connection:
        assert isinstance(connection, ClientConnection)
        receiving = asyncio.create_task(connection.recv())
        await asyncio.sleep(0.2)
        connection.data_received(Frame(Opcode.CONT, b"1", fin=False).serialize(mask=False))
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
