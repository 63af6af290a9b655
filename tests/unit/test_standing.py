from hypothesis import given
from hypothesis import strategies as st

from listener.journal.books import InFlight, RequesterDay
from listener.standing import is_newcomer, open_work, unpaid
from shared.ids import Lamports, Requester

ALLOWED = frozenset({"allowed"})
who = st.sampled_from(("allowed", "one", "two", "three")).map(Requester)
work = st.builds(InFlight, st.integers(1, 9), st.integers(1, 99), st.just(Lamports(0)), st.booleans())


@given(who, st.dictionaries(who, work))
def test_newcomers_count_as_one_requester_and_everybody_else_for_itself(
    requester: Requester, in_flight: dict[Requester, InFlight]
) -> None:
    newcomers = {name for name, known in in_flight.items() if is_newcomer(name, known.has_paid, ALLOWED)}
    assert "allowed" not in newcomers
    together = open_work(requester, True, in_flight, ALLOWED)
    assert together == (
        sum(in_flight[name].tasks for name in newcomers),
        sum(in_flight[name].compute_units for name in newcomers),
    )
    own = in_flight.get(requester)
    assert open_work(requester, False, in_flight, ALLOWED) == ((own.tasks, own.compute_units) if own else (0, 0))


def test_each_paid_task_makes_up_for_an_unpaid_one() -> None:
    assert unpaid(RequesterDay(paid=4, failed=1, expired=2, cancelled=3, refused=50)) == 2
