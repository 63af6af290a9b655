"""What a submission bids for its place in a block. Pure: figures in, a price or the advice to wait out.

All fees of one submission together stay within a share of its task's reward. Prices are micro-lamports for each unit
of the compute unit limit, as the runtime counts them; the rest is lamports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from shared.ids import Lamports

BASE_FEE: Final = Lamports(5_000)
"""What the chain takes for one signature."""
PRESSING_LIVES: Final = 2.0
"""With less time left than so many lives of a blockhash, a second try may come too late."""
_MICRO: Final = 1_000_000
_MAX_DOUBLINGS: Final = 64
"""No reward is higher than what these lead to."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a submission would be sent: seconds until it cannot be paid any more, and those that a blockhash lives.

    `life_s` is None while that was not measured yet.
    """

    left_s: float
    life_s: float | None
    is_in_notice: bool

    @property
    def is_pressing(self) -> bool:
        return self.is_in_notice or (self.life_s is not None and self.left_s < PRESSING_LIVES * self.life_s)


NO_HURRY: Final = Moment(left_s=float("inf"), life_s=None, is_in_notice=False)


def priority_fee(price: int, limit: int) -> Lamports:
    """What `limit` compute units cost at this price, on top of BASE_FEE."""
    return Lamports(-(-price * limit // _MICRO))


def price_within(lamports: int, limit: int) -> int:
    """The highest price at which `limit` compute units cost no more than `lamports`."""
    return lamports * _MICRO // limit


def share_of(reward: int, share: float) -> Lamports:
    """The lamports of a reward that its submission may cost."""
    return Lamports(int(reward * share))


def least_reward(share: float) -> Lamports:
    """Below this the share does not pay the base fee."""
    reward = ceil(BASE_FEE / share)
    return Lamports(reward if share_of(reward, share) >= BASE_FEE else reward + 1)


def percentile(fees: Sequence[int], rank: int) -> int:
    """The smallest of `fees` that is not below `rank` per cent of them; 0 where nobody paid any."""
    if not fees:
        return 0
    return sorted(fees)[ceil(len(fees) * rank / 100) - 1]


def price(going: int, cap: int, earlier: int, limit: int, moment: Moment) -> int:
    """The price that the next signature of a task bids, never above `cap`.

    `going` is what slots cost now, `earlier` the number of the task's signatures that did not land: each doubles the
    bid, from the base fee's worth on where slots cost less.
    """
    if moment.is_pressing:
        return cap
    if not earlier:
        return min(cap, going)
    doubled = max(going << 1, price_within(BASE_FEE, limit)) << min(earlier - 1, _MAX_DOUBLINGS)
    return min(cap, doubled)


def waits_for_cheaper_slots(going: int, cap: int, moment: Moment) -> bool:
    """Whether slots cost more than the task's share now, while there is time until they cost less."""
    return going > cap and not moment.is_pressing
