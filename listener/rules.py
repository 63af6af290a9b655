"""The operator's rules: what is worth taking. Pure: an assignment and its requester's standing in, a verdict out."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from listener.fees import least_reward
from listener.journal.records import Assignment
from listener.settings import ListenerSettings
from listener.standing import Standing
from shared.ids import UnixSeconds

MAX_DEADLINE_S: Final = 30 * 86_400
"""The reference program takes no later one; another may."""
DEADLINE_BELOW_ESTIMATE: Final = "DeadlineBelowEstimate"


@dataclass(frozen=True, slots=True)
class Rules:
    landing_margin_s: float
    fee_share: float
    min_reward_lamports: int
    min_lamports_per_compute_unit: float
    max_compute_units: int
    max_open_tasks: int
    """Of one requester; of all newcomers together."""
    max_risk_lamports: int | None
    """The same: declared compute units in flight, at the minimum price."""
    max_unpaid_a_day: int
    allowlist: frozenset[str]
    """Empty serves all."""
    blocklist: frozenset[str]

    @classmethod
    def of(cls, settings: ListenerSettings) -> "Rules":
        return cls(
            landing_margin_s=settings.landing_margin_s,
            fee_share=settings.fee_share,
            min_reward_lamports=settings.min_reward_lamports,
            min_lamports_per_compute_unit=settings.min_lamports_per_compute_unit,
            max_compute_units=settings.max_compute_units,
            max_open_tasks=settings.max_open_tasks,
            max_risk_lamports=settings.max_risk_lamports,
            max_unpaid_a_day=settings.max_unpaid_a_day,
            allowlist=settings.requester_allowlist,
            blocklist=settings.requester_blocklist,
        )

    def least_reward(self, compute_units: int) -> int:
        """Lamports: what the operator asks for, and at least what makes the share for fees pay the base fee."""
        by_units = ceil(self.min_lamports_per_compute_unit * compute_units)
        return max(self.min_reward_lamports, by_units, least_reward(self.fee_share))

    def risk(self, compute_units: int) -> float:
        """Lamports: the work that is lost where so many declared units are not paid."""
        return self.min_lamports_per_compute_unit * compute_units


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


def judge(assignment: Assignment, rules: Rules, standing: Standing) -> Verdict:
    """What the rules say of an assignment that was verified."""
    return (
        _of_requester(assignment, rules, standing)
        or _of_time(assignment, rules, standing.now)
        or _of_worth(assignment, rules)
        or _of_room(assignment, rules, standing)
        or _of_estimate(assignment, rules, standing)
        or Accept()
    )


def _of_requester(assignment: Assignment, rules: Rules, standing: Standing) -> Verdict | None:
    if assignment.requester in rules.blocklist:
        return Refuse("RequesterBlocked", "this node does not serve this requester", is_told=False)
    if rules.allowlist and assignment.requester not in rules.allowlist:
        return Refuse("RequesterNotAllowed", "this node does not serve this requester", is_told=False)
    if standing.unpaid_today >= 2 * rules.max_unpaid_a_day:
        message = f"{standing.unpaid_today} more tasks of this requester ended unpaid today than were paid"
        return Refuse("TooManyUnpaid", message, is_told=False)
    return None


def _of_time(assignment: Assignment, rules: Rules, now: float) -> Verdict | None:
    if is_too_late(assignment, now, rules.landing_margin_s):
        return Miss(_lateness(assignment.deadline, now))
    if assignment.deadline - now > MAX_DEADLINE_S:
        return Refuse("DeadlineTooFar", "the deadline is more than 30 days away", is_told=False)
    return None


def _of_worth(assignment: Assignment, rules: Rules) -> Verdict | None:
    if assignment.compute_units > rules.max_compute_units:
        message = f"{assignment.compute_units} compute units are declared, at most {rules.max_compute_units} taken"
        return Refuse("ComputeUnitsAboveCap", message, is_told=True)
    least = rules.least_reward(assignment.compute_units)
    if assignment.reward < least:
        units = assignment.compute_units
        message = (
            f"the reward is {assignment.reward} lamports, this node asks for {least} for {units} compute units"
        )
        return Refuse("RewardTooLow", message, is_told=True)
    return None


def _of_room(assignment: Assignment, rules: Rules, standing: Standing) -> Verdict | None:
    of_whom = "of requesters without a paid task" if standing.is_newcomer else "of this requester"
    if standing.open_tasks >= rules.max_open_tasks:
        message = f"{standing.open_tasks} tasks {of_whom} wait here, at most {rules.max_open_tasks}"
        return Refuse("TooManyOpen", message, is_told=False)
    risk = rules.risk(standing.open_compute_units + assignment.compute_units)
    if rules.max_risk_lamports is not None and risk > rules.max_risk_lamports:
        message = (
            f"{ceil(risk)} lamports' worth of work {of_whom} would be unpaid, at most {rules.max_risk_lamports}"
        )
        return Refuse("RiskAboveCap", message, is_told=False)
    return None


def _of_estimate(assignment: Assignment, rules: Rules, standing: Standing) -> Verdict | None:
    if standing.estimate_s is None:
        return None
    left_s = assignment.end - standing.now - rules.landing_margin_s
    if standing.estimate_s <= left_s:
        return None
    message = f"such a task takes {standing.estimate_s:.1f} s here, {left_s:.1f} s are left before it must land"
    return Refuse(DEADLINE_BELOW_ESTIMATE, message, is_told=True)


def _lateness(deadline: UnixSeconds, now: float) -> str:
    return "DeadlinePassed" if now >= deadline else "DeadlineTooNear"
