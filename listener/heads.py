"""What the fixed head of a listed account says of its worth, before anything of it is read whole. Pure."""

from enum import IntEnum, auto

from listener.chain.accounts import ExecutionHead, ExecutionState
from listener.rules import MAX_DEADLINE_S, Rules


class Worth(IntEnum):
    """The order in which accounts are read."""

    GOOD = auto()
    TOLD = auto()
    """It will be refused, and told so: what is said of it needs its ids."""
    LATE = auto()
    """It will be recorded as missed."""


def unserved(head: ExecutionHead, rules: Rules, now: float) -> str | None:
    """Why it is refused without a word, so that the rest of it need not be read; None where it is not."""
    requester = str(head.requester)
    if requester in rules.blocklist:
        return "RequesterBlocked"
    if rules.allowlist and requester not in rules.allowlist:
        return "RequesterNotAllowed"
    if head.deadline - now > MAX_DEADLINE_S:
        return "DeadlineTooFar"
    return None


def rank(head: ExecutionHead, rules: Rules, now: float) -> tuple[int, int, int]:
    """The lowest is read first: what is worth it, ends soonest, pays most."""
    return _worth(head, rules, now), head.deadline, -head.reward


def _worth(head: ExecutionHead, rules: Rules, now: float) -> Worth:
    end = min(head.deadline, head.refund_at) if head.state is ExecutionState.CANCELLED else head.deadline
    if end - now <= rules.landing_margin_s:
        return Worth.LATE
    if head.reward < rules.min_reward_lamports or head.compute_units > rules.max_compute_units:
        return Worth.TOLD
    return Worth.GOOD
