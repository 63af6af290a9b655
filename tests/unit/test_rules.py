import pytest

from listener.rules import DEADLINE_BELOW_ESTIMATE, Accept, Miss, Refuse, Rules, is_too_late, judge
from listener.standing import Standing
from tests.unit.journal_rows import NOW, REQUESTER, assignment

RULES = Rules(
    landing_margin_s=15.0,
    fee_share=0.2,
    min_reward_lamports=30_000,
    min_lamports_per_compute_unit=0.0,
    max_compute_units=10,
    max_open_tasks=10,
    max_risk_lamports=None,
    max_unpaid_a_day=5,
    allowlist=frozenset(),
    blocklist=frozenset(),
)


def rules(**changed: object) -> Rules:
    return Rules(**({name: getattr(RULES, name) for name in RULES.__slots__} | changed))


def test_an_assignment_that_meets_every_rule_is_accepted() -> None:
    assert judge(assignment(reward=30_000, compute_units=10), RULES, Standing(NOW)) == Accept()


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (NOW + 584.9, Accept()),
        (NOW + 585.0, Miss("DeadlineTooNear")),
        (NOW + 600.0, Miss("DeadlinePassed")),
    ],
)
def test_a_deadline_within_the_landing_margin_is_missed(now: float, verdict: object) -> None:
    assert judge(assignment(deadline=NOW + 600), RULES, Standing(now)) == verdict


def test_a_deadline_more_than_thirty_days_away_is_refused_and_nothing_is_sent() -> None:
    days = 30 * 86_400
    assert judge(assignment(deadline=NOW + days), RULES, Standing(NOW)) == Accept()
    verdict = judge(assignment(deadline=NOW + days + 1), RULES, Standing(NOW))
    assert isinstance(verdict, Refuse) and not verdict.is_told


def test_too_small_a_reward_is_refused_with_both_numbers_and_told() -> None:
    verdict = judge(assignment(reward=29_999), RULES, Standing(NOW))
    assert isinstance(verdict, Refuse) and verdict.is_told
    assert "29999" in verdict.message and "30000" in verdict.message


def test_too_many_compute_units_are_refused_and_told() -> None:
    verdict = judge(assignment(compute_units=11), RULES, Standing(NOW))
    assert isinstance(verdict, Refuse) and verdict.is_told and verdict.reason == "ComputeUnitsAboveCap"


@pytest.mark.parametrize(
    "lists", [{"blocklist": frozenset({REQUESTER})}, {"allowlist": frozenset({"somebody else"})}]
)
def test_a_requester_who_is_not_served_is_told_nothing(lists: dict[str, object]) -> None:
    verdict = judge(assignment(reward=0), rules(**lists), Standing(NOW))
    assert isinstance(verdict, Refuse) and not verdict.is_told


def test_a_requester_on_the_allowlist_is_served() -> None:
    assert judge(assignment(), rules(allowlist=frozenset({REQUESTER})), Standing(NOW)) == Accept()


def test_the_end_is_the_notice_where_there_is_one() -> None:
    noticed = assignment(deadline=NOW + 600, refund_at=NOW + 30)
    assert not is_too_late(noticed, NOW, 15.0)
    assert is_too_late(noticed, NOW + 15, 15.0)


def test_the_reward_must_be_worth_the_compute_units() -> None:
    dear = rules(min_lamports_per_compute_unit=10_000.5)
    assert judge(assignment(reward=100_005, compute_units=10), dear, Standing(NOW)) == Accept()
    verdict = judge(assignment(reward=100_004, compute_units=10), dear, Standing(NOW))
    assert isinstance(verdict, Refuse) and verdict.reason == "RewardTooLow" and "100005" in verdict.message


def test_a_reward_whose_share_does_not_pay_the_base_fee_is_refused() -> None:
    free = rules(min_reward_lamports=0)
    assert judge(assignment(reward=25_000), free, Standing(NOW)) == Accept()
    verdict = judge(assignment(reward=24_999), free, Standing(NOW))
    assert isinstance(verdict, Refuse) and verdict.reason == "RewardTooLow" and "25000" in verdict.message


@pytest.mark.parametrize("newcomer", [True, False])
def test_places_in_the_queue_are_capped_and_nothing_is_sent_beyond(newcomer: bool) -> None:
    assert judge(assignment(), RULES, Standing(NOW, newcomer, open_tasks=9)) == Accept()
    verdict = judge(assignment(), RULES, Standing(NOW, newcomer, open_tasks=10))
    assert isinstance(verdict, Refuse) and verdict.reason == "TooManyOpen" and not verdict.is_told


def test_the_work_in_flight_is_capped_by_what_it_would_cost_unpaid() -> None:
    capped = rules(min_lamports_per_compute_unit=100.0, max_risk_lamports=2_000)
    assert judge(assignment(compute_units=8), capped, Standing(NOW, open_compute_units=12)) == Accept()
    verdict = judge(assignment(compute_units=8), capped, Standing(NOW, open_compute_units=13))
    assert isinstance(verdict, Refuse) and verdict.reason == "RiskAboveCap" and not verdict.is_told


def test_a_requester_whose_tasks_end_unpaid_twice_too_often_in_a_day_is_refused_and_told_nothing() -> None:
    assert judge(assignment(), RULES, Standing(NOW, unpaid_today=9)) == Accept()
    verdict = judge(assignment(), RULES, Standing(NOW, unpaid_today=10))
    assert isinstance(verdict, Refuse) and verdict.reason == "TooManyUnpaid" and not verdict.is_told


def test_a_deadline_that_such_tasks_did_not_meet_before_is_refused_and_told() -> None:
    assert judge(assignment(deadline=NOW + 600), RULES, Standing(NOW, estimate_s=585.0)) == Accept()
    verdict = judge(assignment(deadline=NOW + 600), RULES, Standing(NOW, estimate_s=585.1))
    assert isinstance(verdict, Refuse) and verdict.is_told and "585.0" in verdict.message
    assert verdict.reason == DEADLINE_BELOW_ESTIMATE
