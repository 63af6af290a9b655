"""A task's states, every transition with who makes it, and the states of what is owed and sent.

The state alone says what is done next, so a restart at any point goes on with the same step:
accepted → POST, computing → long poll, cancelling → DELETE, computed → look at the account and sign,
submitting and confirmed → the lander watches the signature, an ended one → what is owed to compute.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    ACCEPTED = "accepted"
    """Verified and let through by the rules; compute is to take it."""
    COMPUTING = "computing"
    """Compute has it."""
    CANCELLING = "cancelling"
    """The account shows a cancellation, or is gone; compute's answer decides."""
    COMPUTED = "computed"
    """What is to be submitted stands in `result`; no signature of it may land."""
    SUBMITTING = "submitting"
    """One signed transaction is stored, and may be sent and land."""
    CONFIRMED = "confirmed"
    """It landed; a fork may still take it back."""
    PAID = "paid"
    FAILED = "failed"
    REFUSED = "refused"
    HANDED_BACK = "handed_back"
    """The operator skipped it, or drained the node before it had begun."""
    CANCELLED = "cancelled"
    MISSED = "missed"


ENDED: Final = frozenset(
    {State.PAID, State.FAILED, State.REFUSED, State.HANDED_BACK, State.CANCELLED, State.MISSED}
)
OPEN: Final = frozenset(State) - ENDED
UNSIGNED: Final = frozenset({State.ACCEPTED, State.COMPUTING, State.CANCELLING, State.COMPUTED})
"""Driven by tasks.py; the other open states are the lander's."""
SIGNED: Final = frozenset({State.SUBMITTING, State.CONFIRMED})

TRANSITIONS: Final[dict[tuple[State, State], str]] = {
    (State.ACCEPTED, State.COMPUTING): "tasks: compute took it",
    (
        State.ACCEPTED,
        State.COMPUTED,
    ): "tasks: compute refused its body, or had the result; requests: skipped; drain",
    (State.ACCEPTED, State.CANCELLING): "intake: the account shows a cancellation, or is gone",
    (State.ACCEPTED, State.CANCELLED): "intake: assigned again with other content, or ended elsewhere",
    (State.ACCEPTED, State.MISSED): "tasks: the landing margin before the deadline is reached",
    (State.COMPUTING, State.ACCEPTED): "tasks: compute forgot it; intake: goes on under a new attempt",
    (State.COMPUTING, State.COMPUTED): "tasks: compute has the result; requests: skipped; drain: still queued",
    (State.COMPUTING, State.CANCELLING): "intake: the account shows a cancellation, or is gone",
    (State.COMPUTING, State.CANCELLED): "intake: assigned again with other content, or ended elsewhere",
    (State.COMPUTING, State.MISSED): "tasks: the landing margin before the deadline is reached",
    (State.CANCELLING, State.ACCEPTED): "intake: a fork took the cancellation back, or assigned again alike",
    (State.CANCELLING, State.COMPUTED): "tasks: its outputs are stored and time is left",
    (State.CANCELLING, State.CANCELLED): "tasks: stopped, or no time is left; requests: skipped",
    (State.COMPUTED, State.ACCEPTED): "intake: goes on under a new attempt",
    (State.COMPUTED, State.SUBMITTING): "submission: signed and stored",
    (State.COMPUTED, State.CANCELLED): "submission or intake: the account is no longer ours to end",
    (State.COMPUTED, State.FAILED): "submission: it cannot be told",
    (State.COMPUTED, State.REFUSED): "submission: it cannot be told",
    (State.COMPUTED, State.HANDED_BACK): "submission: it cannot be told",
    (State.COMPUTED, State.MISSED): "submission: the landing margin before the deadline is reached",
    (State.SUBMITTING, State.CONFIRMED): "lander: it landed",
    (State.SUBMITTING, State.COMPUTED): "lander: it expired or erred",
    (State.SUBMITTING, State.ACCEPTED): "intake: goes on under a new attempt",
    (State.SUBMITTING, State.PAID): "lander: finalized",
    (State.SUBMITTING, State.FAILED): "lander: finalized, or the program refuses it for good",
    (State.SUBMITTING, State.REFUSED): "lander: finalized, or the program refuses it for good",
    (State.SUBMITTING, State.HANDED_BACK): "lander: finalized, or the program refuses it for good",
    (State.SUBMITTING, State.CANCELLED): "intake: assigned again with other content",
    (State.CONFIRMED, State.SUBMITTING): "lander: a fork took it back",
    (State.CONFIRMED, State.PAID): "lander: finalized",
    (State.CONFIRMED, State.FAILED): "lander: finalized",
    (State.CONFIRMED, State.REFUSED): "lander: finalized",
    (State.CONFIRMED, State.HANDED_BACK): "lander: finalized",
    (State.CANCELLED, State.ACCEPTED): "intake: a fork took the cancellation back",
    (State.CANCELLED, State.PAID): "settlement: completed by another signature of this key",
    (
        State.CANCELLED,
        State.FAILED,
    ): "settlement: failed by another signature of this key; lander: before it was assigned again",
    (State.MISSED, State.PAID): "settlement: completed by another signature of this key",
    (State.MISSED, State.FAILED): "settlement: failed by another signature of this key",
}


class Owed(StrEnum):
    """What compute is still to be told about an ended task."""

    STOP = "stop"
    """Stop it by force; then the end is waited for at `finalized`, and `unpaid` is owed."""
    UNPAID = "unpaid"
    """Once the end stands at `finalized`: drop the result and delete what it created."""
    PAID = "paid"
    """Drop the result."""
    NOTHING = "nothing"


class OutboxStatus(StrEnum):
    """What became of one signature. The first three are watched."""

    SIGNED = "signed"
    """It may have been sent, and may land."""
    CONFIRMED = "confirmed"
    ERRED = "erred"
    """It landed with an error; a fork may still take that back."""
    FINALIZED = "finalized"
    REJECTED = "rejected"
    """Finalized with an error."""
    EXPIRED = "expired"
    """The block height is above its last valid one, and no endpoint's history knows it."""


WATCHED: Final = frozenset({OutboxStatus.SIGNED, OutboxStatus.CONFIRMED, OutboxStatus.ERRED})


class SubmissionKind(StrEnum):
    """The instruction that a submission carries."""

    COMPLETED = "task_completed"
    FAILED = "task_failed"
    SWEEP = "sweep"
    """A transfer to the cold address; it belongs to no task."""


class WaitsFor(StrEnum):
    """Why an unsigned task does not go on by itself just now."""

    FUNDS = "funds"
    """The balance does not pay its submission: `blocked_funds`."""
    AGREEMENT = "agreement"
    """Two endpoints disagree about its account: `disputed`."""
    CHEAPER_SLOTS = "cheaper_slots"
    """The priority fee that slots cost now is above its share of the reward."""


class LedgerKind(StrEnum):
    """Why lamports came or went."""

    FEE = "fee"
    REWARD = "reward"
    RENT = "rent"
    """Added to an execution account that lacked it."""
    SWEEP = "sweep"
    LOSS = "loss"
    """A computation that ended unpaid: no lamports, but the reward that was forgone."""


class Outcome(StrEnum):
    """How a task of a requester ended: the columns of `requester_days`."""

    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    """After its start."""
    REFUSED = "refused"


ENDED_ELSEWHERE: Final = "EndedElsewhere"
"""The account shows an end that none of this journal's signatures made; settlement finds out which."""
COMPLETED_BEFORE: Final = "CompletedBefore"
_OF_THE_NODE: Final = frozenset({ENDED_ELSEWHERE, COMPLETED_BEFORE})
"""Reasons of cancellations that no requester has to answer for."""


def outcome_of(state: State, was_started: bool, reason: str | None) -> Outcome | None:
    """What an end counts as in the requester's day; None: as nothing. `was_started`: compute had taken it."""
    match state:
        case State.PAID:
            return Outcome.PAID
        case State.FAILED:
            return Outcome.FAILED
        case State.REFUSED:
            return Outcome.REFUSED
        case State.MISSED if was_started:
            return Outcome.EXPIRED
        case State.CANCELLED if was_started and reason not in _OF_THE_NODE:
            return Outcome.CANCELLED
        case _:
            return None


class RequestName(StrEnum):
    """What a command asks the listener for."""

    SKIP = "skip"
    DRAIN = "drain"
    RESUME = "resume"


class RequestState(StrEnum):
    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"


class IntakeState(StrEnum):
    """Whether new work is taken: the values of the condition `intake`."""

    OPEN = "open"
    DRAINING = "draining"
    """Nothing new is taken; what runs goes on to its end."""
    DRAINED = "drained"
    """Nothing is left, and nothing new is taken until the operator says `resume`."""


class ConditionName(StrEnum):
    """What holds for the whole node until it is changed."""

    INTAKE = "intake"
    """An IntakeState; open where it is not set."""
    HALTED = "halted"
    """Why intake stands still until somebody looks."""
