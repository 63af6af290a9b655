import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.fees import (
    BASE_FEE,
    Moment,
    least_reward,
    percentile,
    price,
    price_within,
    priority_fee,
    share_of,
    waits_for_cheaper_slots,
)

CALM = Moment(left_s=600.0, life_s=60.0, is_in_notice=False)
PRESSING = Moment(left_s=119.0, life_s=60.0, is_in_notice=False)
IN_NOTICE = Moment(left_s=600.0, life_s=60.0, is_in_notice=True)
UNMEASURED = Moment(left_s=20.0, life_s=None, is_in_notice=False)
LIMIT = 10_000

prices = st.integers(0, 2**40)
limits = st.integers(1, 1_400_000)
moments = st.sampled_from((CALM, PRESSING, IN_NOTICE, UNMEASURED))


@given(prices, limits)
def test_a_priority_fee_is_rounded_up_as_the_runtime_does(a_price: int, limit: int) -> None:
    assert (
        (priority_fee(a_price, limit) - 1) * 1_000_000
        < a_price * limit
        <= priority_fee(a_price, limit) * 1_000_000
    )


@given(st.integers(0, 2**53), limits)
def test_a_price_within_some_lamports_costs_no_more_and_the_next_one_does(lamports: int, limit: int) -> None:
    highest = price_within(lamports, limit)
    assert priority_fee(highest, limit) <= lamports < priority_fee(highest + 1, limit)


@given(prices, prices, st.integers(0, 200), limits, moments)
def test_no_signature_bids_more_than_the_share(
    going: int, cap: int, earlier: int, limit: int, moment: Moment
) -> None:
    assert 0 <= price(going, cap, earlier, limit, moment) <= cap


@given(prices, prices, st.integers(0, 200), limits, moments)
def test_each_new_signature_bids_at_least_twice_the_last_up_to_the_share(
    going: int, cap: int, earlier: int, limit: int, moment: Moment
) -> None:
    last, new = (price(going, cap, number, limit, moment) for number in (earlier, earlier + 1))
    assert new >= min(cap, 2 * last)
    assert price(going, cap, earlier + 100, limit, moment) == cap or not price_within(BASE_FEE, limit)


def test_the_first_signature_bids_what_slots_cost() -> None:
    assert price(7, 1_000_000, 0, LIMIT, CALM) == 7


def test_where_slots_cost_nothing_the_second_signature_bids_the_base_fee_once_more() -> None:
    assert priority_fee(price(0, 10**9, 1, LIMIT, CALM), LIMIT) == BASE_FEE


@pytest.mark.parametrize("moment", [PRESSING, IN_NOTICE])
def test_in_a_notice_or_with_less_than_two_lives_of_a_blockhash_left_the_first_bids_the_whole_share(
    moment: Moment,
) -> None:
    assert price(7, 1_000_000, 0, LIMIT, moment) == 1_000_000


def test_how_much_time_presses_follows_from_how_long_a_blockhash_lives_here() -> None:
    assert not Moment(left_s=61.0, life_s=30.0, is_in_notice=False).is_pressing
    assert Moment(left_s=61.0, life_s=60.0, is_in_notice=False).is_pressing
    assert not UNMEASURED.is_pressing


def test_a_submission_that_would_cost_more_than_its_share_waits_until_time_presses() -> None:
    assert waits_for_cheaper_slots(1_001, 1_000, CALM)
    assert not waits_for_cheaper_slots(1_000, 1_000, CALM)
    assert not waits_for_cheaper_slots(1_001, 1_000, PRESSING)
    assert not waits_for_cheaper_slots(1_001, 1_000, IN_NOTICE)


@given(st.floats(0.0001, 1.0))
def test_the_least_reward_is_the_smallest_whose_share_pays_the_base_fee(share: float) -> None:
    least = least_reward(share)
    assert share_of(least, share) >= BASE_FEE > share_of(least - 1, share)


@given(st.lists(st.integers(0, 10**9), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_fee_that_so_many_slots_did_not_exceed(fees: list[int], rank: int) -> None:
    found = percentile(fees, rank)
    assert found in fees
    assert sum(fee <= found for fee in fees) * 100 >= rank * len(fees)
    assert sum(fee < found for fee in fees) * 100 < rank * len(fees)


def test_slots_in_which_nobody_paid_cost_nothing() -> None:
    assert percentile([], 75) == 0
