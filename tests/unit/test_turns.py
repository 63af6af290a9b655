from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from listener.journal.records import Waiting
from listener.turns import in_turn
from shared.ids import Lamports, Requester, UnixSeconds
from tests.unit.journal_rows import NOW

LAST = frozenset({Requester("last")})
tasks = st.builds(
    Waiting,
    id=st.integers(1, 10**6),
    requester=st.sampled_from(("first", "last")).map(Requester),
    reward=st.integers(0, 10**9).map(Lamports),
    deadline=st.integers(NOW - 10, NOW + 10**6).map(UnixSeconds),
    refund_at=st.just(UnixSeconds(0)),
)


@given(st.lists(tasks))
def test_the_order_is_by_time_left_to_a_power_of_two_then_by_reward_and_the_unpaid_come_last(
    waiting: list[Waiting],
) -> None:
    ordered = in_turn(waiting, NOW, LAST)
    assert sorted(task.id for task in ordered) == sorted(task.id for task in waiting)
    for one, next_one in pairwise(ordered):
        assert (one.requester in LAST) <= (next_one.requester in LAST)
        if one.requester == next_one.requester:
            left, next_left = (max(1, task.end - NOW) for task in (one, next_one))
            assert next_left * 2 > left
            if next_left >= left and next_left < 2 ** (int(left).bit_length() - 1) * 2:
                assert one.reward >= next_one.reward
