"""Which fault strikes next: by chance with a seed, or the first requests of each kind."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    CUT = "the connection is cut before the request arrives"
    LOST = "the request arrives, its answer is lost"
    TRUNCATE = "the answer ends in the middle, and so does the connection"
    DELAY = "the answer comes late"
    STALL = "nothing comes, and nothing says why"
    DRIP = "the answer comes one byte at a time"
    RATE_LIMIT = "429 with Retry-After"
    ERROR = "500"
    UNAVAILABLE = "503"
    DUPLICATE = "a message comes twice"
    REORDER = "a message comes after the next one"


HTTP_FAULTS = (
    Fault.CUT,
    Fault.LOST,
    Fault.TRUNCATE,
    Fault.DELAY,
    Fault.STALL,
    Fault.DRIP,
    Fault.RATE_LIMIT,
    Fault.ERROR,
    Fault.UNAVAILABLE,
)
HANDSHAKE_FAULTS = (Fault.CUT, Fault.RATE_LIMIT, Fault.ERROR, Fault.UNAVAILABLE)
MESSAGE_FAULTS = (
    Fault.CUT,
    Fault.TRUNCATE,
    Fault.DELAY,
    Fault.STALL,
    Fault.DRIP,
    Fault.DUPLICATE,
    Fault.REORDER,
)
STATUS = {Fault.RATE_LIMIT: 429, Fault.ERROR: 500, Fault.UNAVAILABLE: 503}


@dataclass
class Weather:
    """May be changed at any time; it holds for what comes from then on. Clear until something is set."""

    rng: random.Random
    kinds: Sequence[Fault] = ()
    share: float = 0.0
    """Of all requests and messages, struck by chance."""
    first: int = 0
    """So many of each name (an RPC method, an HTTP method, a notification) are struck, the earliest ones."""
    only: frozenset[str] = frozenset()
    """Names that may be struck; none means all."""
    stall_s: float = 4.0
    delay_s: float = 1.0
    """At most; drawn anew each time."""
    retry_after_s: int = 1
    struck: Counter[tuple[str, Fault]] = field(default_factory=Counter)

    def clear(self) -> None:
        self.kinds, self.share, self.first, self.only = (), 0.0, 0, frozenset()
        self.struck.clear()

    def draw(self, name: str, possible: Sequence[Fault]) -> Fault | None:
        """The fault that strikes this request or message, out of those that can; most often none."""
        kinds = [kind for kind in self.kinds if kind in possible]
        if not kinds or (self.only and name not in self.only):
            return None
        before = sum(count for (struck, _), count in self.struck.items() if struck == name)
        if before >= self.first and self.rng.random() >= self.share:
            return None
        kind = self.rng.choice(kinds)
        self.struck[name, kind] += 1
        return kind
