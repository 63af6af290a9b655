"""What two endpoints say of a signature's end: no single one can end it, or take back what had landed."""

from collections.abc import Sequence
from dataclasses import dataclass

from listener.chain.answers import Status, Statuses
from listener.journal.records import Outbox
from listener.journal.states import OutboxStatus


@dataclass(frozen=True, slots=True)
class Told:
    """What they say alike: None where they know nothing of it."""

    status: Status | None


def is_end(row: Outbox, status: Status | None) -> bool:
    """Whether it would end the signature, or take back that it had landed."""
    if status is None:
        return row.status is not OutboxStatus.SIGNED
    return status.confirmation_status == "finalized"


def agreed(row: Outbox, place: int, answers: Sequence[Statuses]) -> Told | None:
    """Of the signature at `place` of each answer; None where they differ, or one is older than where it landed.

    One that says finalized and one that says confirmed are not at odds: it is not final yet.
    """
    if any(answer.slot < (row.slot or 0) for answer in answers):
        return None
    statuses = [answer.statuses[place] for answer in answers]
    if len({same(status) for status in statuses}) > 1:
        return None
    return Told(next((status for status in statuses if not is_end(row, status)), statuses[0]))


def same(status: Status | None) -> object:
    """What they must say alike of it."""
    return None if status is None else (status.slot, str(status.err))


def end_of(status: Status | None) -> object:
    """What they must say alike where one of them has called it an end for long."""
    return None if status is None else (same(status), status.confirmation_status == "finalized")
