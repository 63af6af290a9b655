from listener.journal.states import ENDED, SIGNED, TRANSITIONS, UNSIGNED, State


def reachable(start: State) -> set[State]:
    seen, ahead = set(), {start}
    while ahead:
        seen |= ahead
        ahead = {to for origin, to in TRANSITIONS if origin in ahead} - seen
    return seen


def test_every_state_is_open_or_ended_and_driven_by_one() -> None:
    assert set(State) == UNSIGNED | SIGNED | ENDED
    assert not (UNSIGNED & SIGNED or UNSIGNED & ENDED or SIGNED & ENDED)


def test_every_state_is_reached_from_the_first_and_every_open_one_can_end() -> None:
    assert reachable(State.ACCEPTED) == set(State)
    for state in UNSIGNED | SIGNED:
        assert reachable(state) & ENDED


END_FOR_GOOD = (State.PAID, State.FAILED, State.REFUSED, State.HANDED_BACK)


def test_what_is_paid_or_refused_stays_so() -> None:
    assert not [to for origin, to in TRANSITIONS if origin in END_FOR_GOOD]


def test_only_a_computed_task_is_signed() -> None:
    assert [origin for origin, to in TRANSITIONS if to is State.SUBMITTING] == [State.COMPUTED, State.CONFIRMED]


def test_every_transition_says_who_makes_it() -> None:
    for who in TRANSITIONS.values():
        assert who.split(":")[0].split(" or ")[0] in {"tasks", "intake", "submission", "lander", "settlement"}
