"""What the books must say once a run is over and everything is quiet."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.simulation.books import Attempt, Books, deeds_of
from tests.simulation.compute_model import FETCH_S
from tests.simulation.plan import Plan

SLACK_S: Final = 75.0
"""What the node may take, with nothing wrong any more, to hear of work, hand it over and land the result."""


def audit(books: Books, plan: Plan, calm_at: float) -> list[str]:
    """Every disagreement. `calm_at`: Unix seconds of the chain's clock from which on nothing was wrong any more."""
    attempts = books.attempts()
    rows = books.tasks()
    return [
        *_journal_is_whole(books),
        *_ends_agree(books, attempts, rows),
        *_as_assigned(attempts, rows),
        *_paid_once(attempts),
        *_paid_where_it_could_be(attempts, rows, plan, calm_at),
        *_objects(books),
        *_balance(books, attempts),
    ]


def _journal_is_whole(books: Books) -> Iterator[str]:
    if [tuple(row) for row in books.rows("PRAGMA integrity_check")] != [("ok",)]:
        yield "the journal's file is damaged"


def _ends_agree(
    books: Books, attempts: list[Attempt], rows: dict[tuple[str, int], dict[str, object]]
) -> Iterator[str]:
    """Each row says of its attempt what the chain says, and what the chain says of one has its row."""
    known = {(str(attempt.account), attempt.number): attempt for attempt in attempts}
    for key, row in rows.items():
        attempt = known.get(key)
        on_chain = None if attempt is None else attempt.completed or attempt.failed
        match row["state"]:
            case "paid":
                if attempt is None or attempt.completed is None:
                    yield f"{key} is booked as paid, the chain does not say so"
            case "failed" | "refused":
                if attempt is not None and attempt.completed is not None:
                    yield f"{key} is booked as {row['state']}, the chain paid it"
            case "cancelled" | "missed":
                if on_chain is not None:
                    yield f"{key} is booked as {row['state']} ({row['reason']}), but was ended by {on_chain}"
    for key, attempt in known.items():
        if attempt.completed is not None and rows.get(key, {}).get("state") != "paid":
            yield f"{key} was paid, the journal has {rows.get(key)}"


def _as_assigned(attempts: list[Attempt], rows: dict[tuple[str, int], dict[str, object]]) -> Iterator[str]:
    """No work was taken on the word of a provider that lied about it."""
    for attempt in attempts:
        row = rows.get((str(attempt.account), attempt.number))
        if row is not None and row["reward"] != attempt.execution.reward:
            yield f"{attempt.account} was taken for {row['reward']} lamports, not for {attempt.execution.reward}"


def _paid_once(attempts: list[Attempt]) -> Iterator[str]:
    pairs = Counter(
        (attempt.account, attempt.execution.requester) for attempt in attempts if attempt.completed is not None
    )
    for (account, _), times in pairs.items():
        if times > 1:
            yield f"{account} was completed {times} times for the same requester"


def _paid_where_it_could_be(
    attempts: list[Attempt], rows: dict[tuple[str, int], dict[str, object]], plan: Plan, calm_at: float
) -> Iterator[str]:
    completed: set[object] = set()
    for attempt in attempts:
        pair = attempt.account, attempt.execution.requester
        begins = max(attempt.at, calm_at)
        ends = attempt.execution.deadline - plan.landing_margin_s
        needs_s = _seconds_of(attempt)
        is_idle = attempt.completed is None and pair not in completed
        if attempt.completed is not None:
            completed.add(pair)
        if needs_s is None or attempt.cancelled_at is not None or attempt.failed is not None:
            continue
        if is_idle and begins + needs_s + SLACK_S <= ends:
            key = str(attempt.account), attempt.number
            yield f"{key} could have been paid within {ends - begins:.0f} s, the journal has {rows.get(key)}"


def _seconds_of(attempt: Attempt) -> float | None:
    """What its model takes; None where it has no result."""
    found = re.search(rb"m-ok-([0-9]+)-([0-9]+)", attempt.execution.texts)
    if found is None:
        return None
    return FETCH_S + int(found[1]) / 1000 + attempt.execution.expected_output_count * int(found[2]) / 1000


def _objects(books: Books) -> Iterator[str]:
    """What was paid for lies in storage, and nothing else does. Compute holds nothing any more."""
    paid_for: set[str] = set()
    for landed in books.blocks():
        if landed.err is None:
            for deed in deeds_of(landed.transaction):
                paid_for.update(deed.uris)
    for uri in sorted(paid_for - books.compute.objects):
        yield f"{uri} was paid for and is gone"
    for uri in sorted(books.compute.objects - paid_for):
        yield f"{uri} is left of what ended unpaid"
    for entry in books.compute.entries:
        yield f"compute still holds {entry.request.key} under attempt {entry.attempt} in stage {entry.stage}"


def _balance(books: Books, attempts: list[Attempt]) -> Iterator[str]:
    """Rewards less fees are what the node's balance changed by; the journal's ledger says the same."""
    rewards = sum(attempt.execution.reward for attempt in attempts if attempt.completed is not None)
    fees = sum(landed.transaction.fee for landed in books.blocks() if landed.transaction.payer == books.node)
    change = books.chain.head.cells[books.node].lamports - books.funded
    if change != rewards - fees:
        yield f"the balance changed by {change}, rewards less fees are {rewards - fees}"
    (booked,) = books.rows("SELECT coalesce(sum(lamports), 0) FROM ledger")
    if booked[0] != change:
        yield f"the ledger's sum is {booked[0]}, the balance changed by {change}"
