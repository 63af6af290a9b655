"""What is wrong with one part of the world, and when: drawn from the seed before anything runs."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """From `start_s` to `end_s` of the run. `rate` of what it may strike is struck; `level` is in the fault's unit."""

    kind: str
    start_s: float
    end_s: float
    rate: float = 1.0
    level: int = 0


class Faults:
    """The faults of one part, as they stand now."""

    def __init__(self, faults: Iterable[Fault], now: Callable[[], float], rng: random.Random) -> None:
        self._faults = tuple(faults)
        self._now = now
        self._rng = rng

    def now(self) -> list[Fault]:
        at = self._now()
        return [fault for fault in self._faults if fault.start_s <= at < fault.end_s]

    def has(self, kind: str) -> bool:
        return any(fault.kind == kind for fault in self.now())

    def level(self, kind: str) -> int:
        return max((fault.level for fault in self.now() if fault.kind == kind), default=0)

    def happens(self, kind: str) -> bool:
        """Whether it strikes this time."""
        return any(fault.kind == kind and self._rng.random() < fault.rate for fault in self.now())

    def lies(self, about: str) -> bool:
        return self.happens(f"lie: {about}")

    def strikes(self, kinds: Sequence[str]) -> Fault | None:
        """The first of these kinds that strikes this time."""
        for fault in self.now():
            if fault.kind in kinds and self._rng.random() < fault.rate:
                return fault
        return None


def draw(
    rng: random.Random, kinds: Sequence[tuple[str, float, range]], end_s: float, mean_gap_s: float
) -> list[Fault]:
    """Faults one after the other, some at once, until `end_s`. `kinds`: name, longest duration, levels."""
    faults: list[Fault] = []
    at = rng.expovariate(1 / mean_gap_s)
    while at < end_s:
        kind, longest_s, levels = rng.choice(kinds)
        until = min(end_s, at + rng.uniform(0.1, 1.0) * longest_s)
        rate = rng.choice([0.2, 0.6, 1.0])
        faults.append(Fault(kind, at, until, rate, rng.choice(levels)))
        at += rng.expovariate(1 / mean_gap_s)
    return faults
