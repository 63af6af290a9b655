"""Ports of the loopback interface that are free now."""

import random
import socket
from typing import Final

from shared.errors import LocalNetworkFailed

FIRST_PORT: Final = 10_000
LAST_PORT: Final = 32_000
"""Below the ports that the system gives to outgoing connections, one of which could come in between."""
TRIES: Final = 200


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that are free for TCP and UDP.

    Drawn by chance, so that two networks that start at the same moment seldom draw the same.
    """
    for _ in range(TRIES):
        first = random.randrange(FIRST_PORT, LAST_PORT - count)  # noqa: S311 # nothing depends on who guesses it
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise LocalNetworkFailed(f"no {count} neighbouring ports are free on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        try:
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
