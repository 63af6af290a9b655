"""What of the endpoint's errors passes by itself, and asking again until it has passed."""

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from listener.chain.rpc import MIN_CONTEXT_SLOT_NOT_REACHED
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ChainError, RpcInvalid, RpcRateLimited, RpcRefused, RpcUnavailable

PATIENCE_S: Final = 30.0
"""For a question without which nothing is lost, or whose answer an endpoint should soon have."""
WARN_EVERY_S: Final = 10.0
MAX_PAUSE_S: Final = 30.0
"""However long an endpoint asks to be left alone."""
BACKOFF: Final = Backoff(base_s=0.2, cap_s=4.0)

log = logging.getLogger("requester")
_jitter = random.Random()  # noqa: S311 # spreads questions, keeps no secret

Answer = TypeVar("Answer")


def passes(error: ChainError) -> bool:
    """Of an endpoint that is away, busy or behind, or whose answer came broken; not of one that refuses."""
    if isinstance(error, RpcRefused):
        return error.code == MIN_CONTEXT_SLOT_NOT_REACHED
    return isinstance(error, RpcUnavailable | RpcRateLimited | RpcInvalid)


async def patiently(ask: Callable[[], Awaitable[Answer]], clock: Clock, limit_s: float | None = None) -> Answer:
    """The answer, asked for again while the error passes: for `limit_s`, or for ever with a warning now and then.

    Raises the last error.
    """
    begun = warned = clock.monotonic()
    attempt = 0
    while True:
        try:
            return await ask()
        except ChainError as error:
            now = clock.monotonic()
            if not passes(error) or (limit_s is not None and now - begun >= limit_s):
                raise
            if now - warned >= WARN_EVERY_S:
                log.warning("for %.0f s the endpoint has had no answer, it is asked again: %s", now - begun, error)
                warned = now
            pause = max(BACKOFF.delay_s(attempt, _jitter), _asked_pause_s(error))
        attempt += 1
        await clock.sleep(pause)


def _asked_pause_s(error: ChainError) -> float:
    asked = error.retry_after_s if isinstance(error, RpcRateLimited) else None
    return min(asked or 0.0, MAX_PAUSE_S)
