"""What is known of a requester and of a package when the rules judge an assignment, and before it is driven. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from listener.journal.books import InFlight, RequesterDay
from shared.ids import Requester


@dataclass(frozen=True, slots=True)
class Standing:
    """`now` is Unix seconds by the chain's clock. What is open is that of all newcomers together, for one of them."""

    now: float
    is_newcomer: bool = True
    """Never paid for a task that is remembered, and not on the allowlist: keys are free."""
    open_tasks: int = 0
    open_compute_units: int = 0
    unpaid_today: int = 0
    estimate_s: float | None = None
    """How long such a computation took so far; None: it was never done."""


def is_newcomer(requester: Requester, has_paid: bool, allowlist: Collection[str]) -> bool:
    return not has_paid and requester not in allowlist


def open_work(
    requester: Requester, newcomer: bool, in_flight: Mapping[Requester, InFlight], allowlist: Collection[str]
) -> tuple[int, int]:
    """Tasks and declared compute units in flight: of this requester, or of all newcomers where it is one."""
    counted = [
        work
        for who, work in in_flight.items()
        if (is_newcomer(who, work.has_paid, allowlist) if newcomer else who == requester)
    ]
    return sum(work.tasks for work in counted), sum(work.compute_units for work in counted)


def unpaid(day: RequesterDay) -> int:
    """How many more tasks failed, expired or were cancelled after their start than were paid."""
    return day.failed + day.expired + day.cancelled - day.paid
