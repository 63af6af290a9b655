"""When the chain is asked what became of signatures: at a sign of the websocket, and without one at a steady pace.

Whatever is asked for is asked for together, so one due signature takes all of its kind with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from listener.chain.answers import EpochInfo
from listener.chain.tip import Tip
from listener.journal.records import Outbox
from listener.settings import ListenerSettings
from shared.clock import Clock

FINALITY_INTERVAL_S: Final = 2.0
"""Between two questions for what has landed, once it may be finalized."""
UNROOTED_INTERVAL_S: Final = 30.0
"""The same before the websocket tells that it is: a fork may have taken it back."""
EXPIRY_INTERVAL_S: Final = 2.0
"""Between two questions for the block height, once something may have expired."""
UNSEEN_EXPIRY_INTERVAL_S: Final = 30.0
"""The same while the slots that the websocket tells of are too few for that."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two sends of the same bytes, between two questions for statuses, and for how long a websocket
    without a newer slot is believed to tell of all.
    """

    resend_interval_s: float
    status_interval_s: float
    silence_s: float = 0.0

    @classmethod
    def of(cls, settings: ListenerSettings) -> "Pace":
        return cls(settings.resend_interval_s, settings.status_interval_s, settings.watchdog_silence_s)


class WhenToAsk:
    def __init__(self, tip: Tip, pace: Pace, clock: Clock) -> None:
        self._tip = tip
        self._pace = pace
        self._clock = clock
        self._asked_at: dict[str, float] | None = None
        """When each flying signature was last asked for, or first seen."""
        self._noticed: set[str] = set()
        self._landed_at: float | None = None
        """Since when something waits to be finalized, or was asked whether it is."""
        self._height_asked_at = -UNSEEN_EXPIRY_INTERVAL_S
        self._height: EpochInfo | None = None

    def notice(self, signature: str) -> None:
        """The websocket told of it: until its status is known, that is asked for at the quick pace, and now."""
        self._noticed.add(signature)
        if self._asked_at is not None:
            self._asked_at[signature] = -self._pace.status_interval_s

    def flying(self, rows: Sequence[Outbox]) -> bool:
        """Whether what has not landed is asked for now. What an earlier process sent may have landed since."""
        now, names = self._clock.monotonic(), {row.signature for row in rows}
        if self._asked_at is None:
            self._asked_at = dict.fromkeys(names, now)
            return bool(rows)
        self._noticed &= names
        self._asked_at = {name: self._asked_at.get(name, now) for name in names}
        is_due = any(now - asked_at >= self._interval_s(name) for name, asked_at in self._asked_at.items())
        if is_due:
            self._asked_at = dict.fromkeys(names, now)
        return is_due

    def landed(self, rows: Sequence[Outbox]) -> bool:
        """Whether what has landed is asked for now."""
        now = self._clock.monotonic()
        if not rows:
            self._landed_at = None
            return False
        if self._landed_at is None:
            self._landed_at = now
        is_rooted = any(row.slot is not None and row.slot < self._tip.root for row in rows)
        interval_s = FINALITY_INTERVAL_S if is_rooted or not self._is_told() else UNROOTED_INTERVAL_S
        if now - self._landed_at < interval_s:
            return False
        self._landed_at = now
        return True

    def expiry(self, unknown: Sequence[Outbox]) -> bool:
        """Whether the block height is asked for now, of which each slot adds one at most."""
        now = self._clock.monotonic()
        most = self._most_height()
        is_possible = most is None or any(most > row.last_valid_block_height for row in unknown)
        interval_s = EXPIRY_INTERVAL_S if is_possible else UNSEEN_EXPIRY_INTERVAL_S
        if not unknown or now - self._height_asked_at < interval_s:
            return False
        self._height_asked_at = now
        return True

    def saw(self, height: EpochInfo) -> None:
        self._height = height

    def _interval_s(self, signature: str) -> float:
        is_quick = signature in self._noticed or not self._is_told()
        return self._pace.status_interval_s if is_quick else self._pace.resend_interval_s

    def _most_height(self) -> int | None:
        """None where it is not known how high the chain can be by now."""
        if self._height is None or not self._is_told():
            return None
        return self._height.block_height + max(0, self._tip.slot - self._height.absolute_slot)

    def _is_told(self) -> bool:
        """Whether the websocket would tell of what lands, and of the root."""
        age_s = self._tip.age_s()
        return age_s is not None and age_s < self._pace.silence_s
