"""What both processes need to serve HTTP and to stop: a socket, a server that leaves signals alone, a stop flag."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from shared.errors import ConfigurationError

BACKLOG: Final = 1024
LAST_ANSWERS_S: Final = 5
"""After the process has ended its work, so long may answers that are under way take."""
FORCED_EXIT: Final = 1


def stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one ends the process at once."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(FORCED_EXIT)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def listen(host: str, port: int, port_setting: str) -> socket.socket:
    """A listening socket. Raises ConfigurationError, which names the settings to change."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {exc.strerror}; set SPLITUP_HOST or {port_setting}"
        ) from exc


class Server(uvicorn.Server):
    """Signals are the process's to answer: while the last work ends, the API goes on answering."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any) -> Server:
    """A server of this ASGI application; ended by setting `should_exit`."""
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )
    return Server(config)
