"""The operator's rules: what is worth taking. Pure: an assignment and the chain's time in, a verdict out."""

from dataclasses import dataclass
from typing import Final

from listener.journal.records import Assignment
from listener.settings import ListenerSettings
from shared.ids import UnixSeconds

MAX_DEADLINE_S: Final = 30 * 86_400
"""The reference program takes no later one; another may."""


@dataclass(frozen=True, slots=True)
class Rules:
    landing_margin_s: float
    min_reward_lamports: int
    max_compute_units: int
    allowlist: frozenset[str]
    """Empty serves all."""
    blocklist: frozenset[str]

    @classmethod
    def of(cls, settings: ListenerSettings) -> "Rules":
        return cls(
            landing_margin_s=settings.landing_margin_s,
            min_reward_lamports=settings.min_reward_lamports,
            max_compute_units=settings.max_compute_units,
            allowlist=settings.requester_allowlist,
            blocklist=settings.requester_blocklist,
        )


@dataclass(frozen=True, slots=True)
class Accept:
    """It is taken."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """`is_told`: `task_failed` is sent with the message. A requester who is not served is told nothing."""

    reason: str
    message: str
    is_told: bool


@dataclass(frozen=True, slots=True)
class Miss:
    """It came too late: nothing is sent."""

    reason: str


Verdict = Accept | Refuse | Miss


def is_too_late(assignment: Assignment, now: float, landing_margin_s: float) -> bool:
    """Whether a result could not land any more. `now` is Unix seconds by the chain's clock."""
    return assignment.end - now <= landing_margin_s


def judge(assignment: Assignment, rules: Rules, now: float) -> Verdict:
    """What the rules say of an assignment that was verified. `now` is Unix seconds by the chain's clock."""
    return _of_requester(assignment, rules) or _of_time(assignment, rules, now) or _of_worth(assignment, rules)


def _of_requester(assignment: Assignment, rules: Rules) -> Verdict | None:
    if assignment.requester in rules.blocklist:
        return Refuse("RequesterBlocked", "this node does not serve this requester", is_told=False)
    if rules.allowlist and assignment.requester not in rules.allowlist:
        return Refuse("RequesterNotAllowed", "this node does not serve this requester", is_told=False)
    return None


def _of_time(assignment: Assignment, rules: Rules, now: float) -> Verdict | None:
    if is_too_late(assignment, now, rules.landing_margin_s):
        return Miss(_lateness(assignment.deadline, now))
    if assignment.deadline - now > MAX_DEADLINE_S:
        return Refuse("DeadlineTooFar", "the deadline is more than 30 days away", is_told=False)
    return None


def _of_worth(assignment: Assignment, rules: Rules) -> Verdict:
    if assignment.reward < rules.min_reward_lamports:
        message = f"the reward is {assignment.reward} lamports, this node asks for {rules.min_reward_lamports}"
        return Refuse("RewardTooLow", message, is_told=True)
    if assignment.compute_units > rules.max_compute_units:
        message = f"{assignment.compute_units} compute units are declared, at most {rules.max_compute_units} taken"
        return Refuse("ComputeUnitsAboveCap", message, is_told=True)
    return Accept()


def _lateness(deadline: UnixSeconds, now: float) -> str:
    return "DeadlinePassed" if now >= deadline else "DeadlineTooNear"
