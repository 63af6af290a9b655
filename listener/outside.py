"""Everything by which the listener touches the world, but for the journal's file."""

import random
from dataclasses import dataclass

import httpx

from listener.chain.feed import Connect
from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class Outside:
    """Made once at start and passed in, so that nothing in the listener knows whether the world is a real one."""

    rpc_http: httpx.AsyncClient
    compute_http: httpx.AsyncClient
    connect: Connect
    clock: Clock
    rng: random.Random
    """For backoff and jitter, nothing secret."""
