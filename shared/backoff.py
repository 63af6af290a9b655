"""The one backoff: exponential, with full jitter and a cap."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """`base_s` doubles with each attempt up to `cap_s`; the delay is drawn evenly from half of it to all."""

    base_s: float
    cap_s: float

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait before try number `attempt` (0 is the first retry)."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(attempt, 32))
        return ceiling * (0.5 + 0.5 * rng.random())
