import pytest

from listener.chain.slot_pace import WINDOW_S, SlotPace
from shared.ids import Slot
from tests.unit.listener_world import FastClock


class SetClock(FastClock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def heard(pace: SlotPace, clock: SetClock, slots: int, seconds: float, first: int = 100) -> None:
    for number in range(slots):
        pace.note(Slot(first + number))
        clock.now += seconds


@pytest.mark.parametrize("seconds", [0.4, 0.2, 0.05])
def test_the_pace_is_that_of_the_slots_that_were_heard_of(seconds: float) -> None:
    clock = SetClock()
    pace = SlotPace(clock)
    heard(pace, clock, 400, seconds)
    assert pace.seconds() == pytest.approx(seconds)


def test_from_a_single_moment_no_pace_can_be_told() -> None:
    clock = SetClock()
    pace = SlotPace(clock)
    assert pace.seconds() is None
    heard(pace, clock, 20, 0.4)
    assert pace.seconds() is None


def test_a_stall_soon_after_the_start_makes_no_slot_look_slow() -> None:
    clock = SetClock()
    pace = SlotPace(clock)
    heard(pace, clock, 3, 0.4)
    clock.now += 5.0
    pace.note(Slot(103))
    assert pace.seconds() is None


def test_after_a_silence_the_pace_is_measured_anew() -> None:
    clock = SetClock()
    pace = SlotPace(clock)
    heard(pace, clock, 20, 0.4)
    clock.now += WINDOW_S + 1
    pace.note(Slot(10_000))
    assert pace.seconds() is None
    heard(pace, clock, 80, 0.2, first=10_001)
    assert pace.seconds() == pytest.approx(0.2, rel=0.1)


def test_slots_of_another_endpoint_that_lags_begin_the_measure_anew() -> None:
    clock = SetClock()
    pace = SlotPace(clock)
    heard(pace, clock, 20, 0.4)
    heard(pace, clock, 40, 0.4, first=90)
    assert pace.seconds() == pytest.approx(0.4)
