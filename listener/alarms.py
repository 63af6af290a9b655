"""What calls the operator: each alarm is one log line with a fixed name, explained in docs/operations.md."""

import logging
from enum import StrEnum

from shared.logs import fields

log = logging.getLogger("listener.alarm")


class Alarm(StrEnum):
    """The names, which are the log line's whole message: a rule that watches the log may rely on them."""

    BELOW_FLOOR = "below_floor"
    """The balance is under the configured floor: no new task is taken."""
    BLOCKED_FUNDS = "blocked_funds"
    """The balance does not pay a submission: that task waits for a top-up."""
    CLUSTER_UNKNOWN = "cluster_unknown"
    """At the first start no two endpoints say alike of which cluster they are: nothing begins until they do."""
    COMPUTE_CONTENT_DIFFERS = "compute_content_differs"
    """Compute was given other content under the same attempt: by another listener."""
    CONTENT_DIFFERS = "content_differs"
    """An account shows other content within one attempt: an endpoint contradicts itself."""
    DISPUTED = "disputed"
    """Two endpoints disagree and no third one decides: nothing is signed for that task."""
    ENDPOINT_OUT = "endpoint_out"
    """An endpoint is of another cluster, or was outvoted: it is not used for a while."""
    FAILURE_BUDGET_SPENT = "failure_budget_spent"
    """Today's fees for refusals and failures are spent: they are recorded, not sent."""
    HISTORY_GAP = "history_gap"
    """No endpoint has some slots' signatures any more: the cursor moved over them."""
    INTAKE_HALTED = "intake_halted"
    """Signatures are missing and accounts cannot be listed: new work cannot be found."""
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    """The journal cannot be written: the disk is full, or another program holds the file."""
    PAID_BEFORE = "paid_before"
    """A completion of an older attempt had been paid before the pair was assigned again."""


def sound(alarm: Alarm, **about: object) -> None:
    """One line at level error; `about` says of what, in the log's names."""
    log.error(alarm.value, extra=fields(**about))
