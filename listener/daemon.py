"""The life of the listener: startup, main loop, shutdown."""

import asyncio
import logging
import os
import random
import socket
from contextlib import AsyncExitStack
from typing import Final
from urllib.request import getproxies

import httpx

from listener.aiohttp_transport import AiohttpTransport
from listener.chain.feed import websocket
from listener.chain.idl import load_idl
from listener.chain.keyfile import load_keypair, parse_public_key
from listener.compute_client import compute_http
from listener.health import health_app
from listener.journal.journal import Journal
from listener.node import Node
from listener.outside import Outside
from listener.settings import ListenerSettings
from program import IDL_PATH
from shared.clock import SystemClock
from shared.http import NO_PROXY_FOR_LOOPBACK
from shared.logs import fields
from shared.serving import listen, server, stop_signal
from shared.token import read_token

RPC_TIMEOUT_S: Final = 20.0
RPC_CONNECT_TIMEOUT_S: Final = 5.0

log = logging.getLogger("listener")


async def run(settings: ListenerSettings) -> None:
    """Until SIGTERM or SIGINT, or the end of a drain.

    Raises ConfigurationError, KeyFileError, IdlInvalid, JournalError or WrongCluster.
    """
    stop = stop_signal()
    key = load_keypair(settings.keypair)
    token = read_token(settings.token_file)
    program = load_idl(settings.idl or IDL_PATH, parse_public_key(settings.program_id, "SPLITUP_PROGRAM_ID"))
    async with AsyncExitStack() as closing:
        journal = Journal(settings.journal)
        closing.callback(journal.close)
        listening = listen(settings.host, settings.listener_port, "SPLITUP_LISTENER_PORT")
        closing.callback(listening.close)
        outside = Outside(
            rpc_http=await closing.enter_async_context(rpc_http()),
            compute_http=await closing.enter_async_context(compute_http(settings.compute_url, token)),
            connect=websocket,
            clock=SystemClock(),
            rng=random.Random(),  # noqa: S311 # for backoff, nothing secret
        )
        node = Node(settings, key, program, outside, journal)
        await _live(settings, node, listening, token, stop)
    log.info("the listener has stopped")


def rpc_http() -> httpx.AsyncClient:
    """What endpoints are asked with."""
    transport = AiohttpTransport()
    mounts = dict.fromkeys(NO_PROXY_FOR_LOOPBACK, transport)
    if not getproxies():  # httpx itself knows the way through a proxy
        mounts["all://"] = transport
    timeout = httpx.Timeout(RPC_TIMEOUT_S, connect=RPC_CONNECT_TIMEOUT_S)
    return httpx.AsyncClient(timeout=timeout, mounts=mounts)


async def _live(
    settings: ListenerSettings, node: Node, listening: socket.socket, token: str, stop: asyncio.Event
) -> None:
    async with asyncio.TaskGroup() as group:
        health = server(health_app(node.checks, token))
        serving = group.create_task(health.serve(sockets=[listening]))
        host, port = listening.getsockname()[:2]
        log.info("the listener lives", extra=fields(host=host, port=port, node=node.address, pid=os.getpid()))
        life = group.create_task(node.live())
        await _first(stop, node.drained)
        log.info("the listener stops", extra=fields(grace_s=settings.grace_s))
        node.close_intake()
        try:
            async with asyncio.timeout(settings.grace_s):
                await node.flush()
        except TimeoutError:
            log.warning("the grace time is over: what has not landed stays in the journal")
        life.cancel()
        health.should_exit = True
        await serving


async def _first(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
