import pytest

from listener.rules import Accept, Miss, Refuse, Rules, is_too_late, judge
from tests.unit.journal_rows import NOW, REQUESTER, assignment

RULES = Rules(
    landing_margin_s=15.0,
    min_reward_lamports=1000,
    max_compute_units=10,
    allowlist=frozenset(),
    blocklist=frozenset(),
)


def rules(**changed: object) -> Rules:
    return Rules(**({name: getattr(RULES, name) for name in RULES.__slots__} | changed))


def test_an_assignment_that_meets_every_rule_is_accepted() -> None:
    assert judge(assignment(reward=1000, compute_units=10), RULES, NOW) == Accept()


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (NOW + 584.9, Accept()),
        (NOW + 585.0, Miss("DeadlineTooNear")),
        (NOW + 600.0, Miss("DeadlinePassed")),
    ],
)
def test_a_deadline_within_the_landing_margin_is_missed(now: float, verdict: object) -> None:
    assert judge(assignment(deadline=NOW + 600), RULES, now) == verdict


def test_a_deadline_more_than_thirty_days_away_is_refused_and_nothing_is_sent() -> None:
    days = 30 * 86_400
    assert judge(assignment(deadline=NOW + days), RULES, NOW) == Accept()
    verdict = judge(assignment(deadline=NOW + days + 1), RULES, NOW)
    assert isinstance(verdict, Refuse) and not verdict.is_told


def test_too_small_a_reward_is_refused_with_both_numbers_and_told() -> None:
    verdict = judge(assignment(reward=999), RULES, NOW)
    assert isinstance(verdict, Refuse) and verdict.is_told
    assert "999" in verdict.message and "1000" in verdict.message


def test_too_many_compute_units_are_refused_and_told() -> None:
    verdict = judge(assignment(compute_units=11), RULES, NOW)
    assert isinstance(verdict, Refuse) and verdict.is_told and verdict.reason == "ComputeUnitsAboveCap"


@pytest.mark.parametrize(
    "lists", [{"blocklist": frozenset({REQUESTER})}, {"allowlist": frozenset({"somebody else"})}]
)
def test_a_requester_who_is_not_served_is_told_nothing(lists: dict[str, object]) -> None:
    verdict = judge(assignment(reward=0), rules(**lists), NOW)
    assert isinstance(verdict, Refuse) and not verdict.is_told


def test_a_requester_on_the_allowlist_is_served() -> None:
    assert judge(assignment(), rules(allowlist=frozenset({REQUESTER})), NOW) == Accept()


def test_the_end_is_the_notice_where_there_is_one() -> None:
    noticed = assignment(deadline=NOW + 600, refund_at=NOW + 30)
    assert not is_too_late(noticed, NOW, 15.0)
    assert is_too_late(noticed, NOW + 15, 15.0)
