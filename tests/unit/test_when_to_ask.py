"""What is asked for when: the clock stands still until a test moves it."""

from dataclasses import dataclass, replace

import pytest

from listener.chain.answers import EpochInfo
from listener.chain.tip import Tip
from listener.chain.when_to_ask import (
    EXPIRY_INTERVAL_S,
    FINALITY_INTERVAL_S,
    UNROOTED_INTERVAL_S,
    UNSEEN_EXPIRY_INTERVAL_S,
    Pace,
    WhenToAsk,
)
from listener.journal.records import Outbox
from listener.journal.states import OutboxStatus, SubmissionKind
from shared.ids import Attempt, Lamports, Slot

PACE = Pace(resend_interval_s=2.0, status_interval_s=0.5, silence_s=15.0)
LANDED_IN = Slot(100)


@dataclass
class StillClock:
    now: float = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


ROW = Outbox(
    id=1,
    task=1,
    kind=SubmissionKind.COMPLETED,
    attempt=Attempt(1),
    signature="first",
    last_valid_block_height=500,
    fee=Lamports(5_000),
    lamports=Lamports(0),
    status=OutboxStatus.SIGNED,
    superseded=False,
    slot=None,
    error=None,
)
SECOND = replace(ROW, id=2, signature="second")
LANDED = replace(ROW, status=OutboxStatus.CONFIRMED, slot=LANDED_IN)


@dataclass
class World:
    clock: StillClock
    tip: Tip
    when: WhenToAsk

    def hears(self, slot: int, root: int = 0) -> None:
        self.tip.see(Slot(slot), Slot(root))

    def asks_after(self, seconds: float, rows: list[Outbox]) -> bool:
        self.clock.now += seconds
        return self.when.flying(rows)


@pytest.fixture
def world() -> World:
    clock = StillClock()
    tip = Tip(clock)
    made = World(clock, tip, WhenToAsk(tip, PACE, clock))
    made.when.flying([])  # it has begun before anything was signed
    return made


def test_without_a_websocket_a_status_is_asked_at_the_quick_pace(world: World) -> None:
    assert not world.when.flying([ROW])
    assert not world.asks_after(0.25, [ROW])
    assert world.asks_after(0.25, [ROW])
    assert not world.asks_after(0.25, [ROW])


def test_beside_a_websocket_it_is_asked_when_it_would_be_sent_again(world: World) -> None:
    world.hears(1)
    assert not world.when.flying([ROW])
    assert not world.asks_after(1.75, [ROW])
    assert world.asks_after(0.25, [ROW])


def test_a_websocket_that_is_silent_for_long_is_none(world: World) -> None:
    world.hears(1)
    world.clock.now += PACE.silence_s
    assert not world.when.flying([ROW])
    assert world.asks_after(0.5, [ROW])


def test_what_was_notified_is_asked_at_once_and_then_quickly_until_it_is_known(world: World) -> None:
    world.hears(1)
    assert not world.when.flying([ROW])
    world.when.notice("first")
    assert world.when.flying([ROW])
    assert not world.when.flying([ROW])
    assert world.asks_after(0.5, [ROW])
    assert not world.when.flying([])
    assert not world.when.flying([SECOND])
    assert not world.asks_after(0.5, [SECOND])


def test_what_an_earlier_process_signed_is_asked_at_once(world: World) -> None:
    fresh = WhenToAsk(world.tip, PACE, world.clock)
    assert fresh.flying([ROW])
    assert not fresh.flying([ROW])


def test_what_is_asked_for_takes_the_others_with_it(world: World) -> None:
    world.when.flying([ROW])
    world.clock.now += 0.25
    world.when.flying([ROW, SECOND])
    assert world.asks_after(0.25, [ROW, SECOND])
    assert not world.asks_after(0.25, [ROW, SECOND])


def test_what_landed_is_asked_for_once_the_root_has_passed_it(world: World) -> None:
    world.hears(101)
    assert not world.when.landed([LANDED])
    world.clock.now += FINALITY_INTERVAL_S
    world.hears(132, root=LANDED_IN)
    assert not world.when.landed([LANDED])
    world.hears(133, root=LANDED_IN + 1)
    assert world.when.landed([LANDED])
    assert not world.when.landed([LANDED])


def test_before_that_a_fork_is_looked_for_now_and_then(world: World) -> None:
    assert not world.when.landed([LANDED])
    for _ in range(2):
        world.clock.now += UNROOTED_INTERVAL_S - 1
        world.hears(101, root=60)
        assert not world.when.landed([LANDED])
        world.clock.now += 1
        assert world.when.landed([LANDED])


def test_without_a_websocket_finality_is_asked_at_a_steady_pace(world: World) -> None:
    assert not world.when.landed([LANDED])
    for _ in range(2):
        world.clock.now += FINALITY_INTERVAL_S
        assert world.when.landed([LANDED])


def test_the_height_is_asked_for_once_the_slots_allow_that_something_has_expired(world: World) -> None:
    world.hears(1_000)
    assert world.when.expiry([ROW])
    world.when.saw(EpochInfo(Slot(1_000), 400))
    world.clock.now += EXPIRY_INTERVAL_S
    world.hears(1_100)
    assert not world.when.expiry([ROW])
    world.hears(1_101)
    assert world.when.expiry([ROW])
    assert not world.when.expiry([ROW])


def test_a_websocket_whose_slots_stand_still_hides_no_expiry(world: World) -> None:
    world.hears(1_000)
    assert world.when.expiry([ROW])
    world.when.saw(EpochInfo(Slot(1_000), 400))
    world.clock.now += UNSEEN_EXPIRY_INTERVAL_S
    world.hears(1_001)
    assert world.when.expiry([ROW])


def test_without_a_websocket_the_height_is_asked_at_a_steady_pace_while_something_is_unknown(world: World) -> None:
    assert not world.when.expiry([])
    for _ in range(2):
        assert world.when.expiry([ROW])
        world.when.saw(EpochInfo(Slot(1_000), 400))
        world.clock.now += EXPIRY_INTERVAL_S
