"""What is tried again, how often and for how long, before a fault of storage ends a task."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from shared.backoff import Backoff
from shared.errors import InputMissing, StorageUnavailable

PATIENCE_S = 120.0
MISSING_RETRIES = 2
"""A store may answer 404 for a moment after an object was written through another of its hosts."""

T = TypeVar("T")


class Transient(Exception):
    """One attempt failed in a way that may pass; the message says how."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`patience_s`: seconds from an operation's first failure until it is given up; callers may cancel sooner."""

    patience_s: float = PATIENCE_S
    missing_retries: int = MISSING_RETRIES
    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=0.1, cap_s=5.0))

    def delay_s(self, error: Exception, attempt: int, waited_s: float, rng: random.Random) -> float | None:
        """Seconds until the next attempt after failure number `attempt` (from 0), or None to give up."""
        missing = isinstance(error, InputMissing)
        again = attempt < self.missing_retries if missing else waited_s < self.patience_s
        return self.backoff.delay_s(attempt, rng) if again else None


PATIENT = RetryPolicy()
ONE_ATTEMPT = RetryPolicy(patience_s=0.0, missing_retries=0)


async def retried(attempt: Callable[[], Awaitable[T]], policy: RetryPolicy, what: str) -> T:
    """The result of the first attempt that succeeds. Raises StorageUnavailable, or the attempt's own TaskError."""
    rng = random.Random()  # noqa: S311 # jitter, no secret
    failures = 0
    first_failure = 0.0
    while True:
        try:
            return await attempt()
        except (Transient, InputMissing) as exc:
            now = time.monotonic()
            first_failure = first_failure or now
            delay_s = policy.delay_s(exc, failures, now - first_failure, rng)
            if delay_s is None:
                if isinstance(exc, InputMissing):
                    raise
                raise StorageUnavailable(
                    f"{what}: {exc} (after {failures + 1} attempts in {now - first_failure:.0f} s)"
                ) from exc
        failures += 1
        await asyncio.sleep(delay_s)
