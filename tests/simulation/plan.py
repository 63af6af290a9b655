"""What one seed stands for: the chain's terms, everybody's wishes, the faults and when the listener is killed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from tests.simulation.chain import ChainTerms
from tests.simulation.faults import Fault, draw
from tests.simulation.people import Wish

REQUESTERS: Final = 4
AFTERMATH_S: Final = 40.0
"""An endpoint that failed is preferred again only after a while."""
OTHER_NODE: Final = Pubkey([21] * 32)

_NO_LEVEL: Final = range(1)
_HTTP_KINDS: Final = (
    ("down", 25.0, _NO_LEVEL),
    ("hang", 20.0, _NO_LEVEL),
    ("slow", 20.0, _NO_LEVEL),
    ("busy", 15.0, _NO_LEVEL),
    ("error", 20.0, _NO_LEVEL),
    ("lost answer", 20.0, _NO_LEVEL),
    ("garbage", 10.0, _NO_LEVEL),
)
_RPC_KINDS: Final = (
    *_HTTP_KINDS,
    ("lag", 30.0, range(1, 40)),
    ("stuck", 30.0, _NO_LEVEL),
    ("send dropped", 40.0, _NO_LEVEL),
    ("no listing", 60.0, _NO_LEVEL),
    ("no logs", 40.0, _NO_LEVEL),
    ("pruned", 60.0, range(40, 160)),
)
_LIES: Final = (
    ("lie: account missing", 20.0, _NO_LEVEL),
    ("lie: status of another", 20.0, _NO_LEVEL),
    ("lie: no status", 20.0, _NO_LEVEL),
    ("lie: height ahead", 20.0, _NO_LEVEL),
    ("lie: balance", 20.0, _NO_LEVEL),
    ("other cluster", 20.0, _NO_LEVEL),
)
_FORGERIES: Final = (("lie: reward", 20.0, _NO_LEVEL),)
_WEBSOCKET_KINDS: Final = (
    ("down", 30.0, _NO_LEVEL),
    ("hang", 20.0, _NO_LEVEL),
    ("drop", 20.0, _NO_LEVEL),
    ("silent", 30.0, _NO_LEVEL),
    ("missed", 60.0, _NO_LEVEL),
    ("duplicate", 30.0, _NO_LEVEL),
    ("garbage", 10.0, _NO_LEVEL),
    ("reorder", 20.0, _NO_LEVEL),
)
_COMPUTE_KINDS: Final = (*_HTTP_KINDS, ("restart", 10.0, _NO_LEVEL))
_OUTCOMES: Final = ("ok", "ok", "ok", "ok", "ok", "failed", "refused")


@dataclass(frozen=True, slots=True)
class Life:
    """One start of the listener: it ends `after_s`, or at an effect on the world, and begins again after a pause."""

    after_s: float
    at_effect: int | None
    is_stopped: bool
    """By a signal that it heeds, and not killed."""
    pause_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    chaos_s: float
    """After so many seconds every fault is over."""
    terms: ChainTerms
    providers: tuple[tuple[Fault, ...], ...]
    websockets: tuple[tuple[Fault, ...], ...]
    compute: tuple[Fault, ...]
    wishes: tuple[Wish, ...]
    mentions: tuple[float, ...]
    lives: tuple[Life, ...]
    commits_s: tuple[float, float]
    """How long a call of the journal takes."""
    commitment: str
    landing_margin_s: float


def plan_of(seed: int) -> Plan:
    """Each part is drawn on its own, so that what one of them draws changes no other."""
    rng = _rng(seed, "run")
    chaos_s = rng.uniform(40.0, 160.0)
    is_rough = rng.random() < 0.8
    count = rng.choice([1, 2, 2, 3])
    return Plan(
        seed=seed,
        chaos_s=chaos_s,
        terms=_terms(_rng(seed, "chain"), is_rough),
        providers=_providers(seed, count, chaos_s) if is_rough else ((),) * count,
        websockets=tuple(
            _faults(_rng(seed, f"websocket {at}"), _WEBSOCKET_KINDS, chaos_s) if is_rough else ()
            for at in range(count)
        ),
        compute=_faults(_rng(seed, "compute"), _COMPUTE_KINDS, chaos_s) if is_rough else (),
        wishes=_wishes(seed, chaos_s),
        mentions=_mentions(_rng(seed, "mentions"), chaos_s),
        lives=_lives(_rng(seed, "lives"), chaos_s),
        commits_s=rng.choice([(0.0, 0.0), (0.001, 0.01), (0.01, 0.3)]),
        commitment=rng.choice(["confirmed", "confirmed", "finalized"]),
        landing_margin_s=rng.choice([5.0, 15.0]),
    )


def _rng(seed: int, part: str) -> random.Random:
    return random.Random(f"{seed} plan {part}")


def _terms(rng: random.Random, is_rough: bool) -> ChainTerms:
    slot_s = rng.choice([0.4, 0.4, 0.2])
    blockhash_life = rng.choice([150, 150, int(30 / slot_s)])
    if not is_rough:
        return ChainTerms(slot_s, blockhash_life)
    return ChainTerms(
        slot_s,
        blockhash_life,
        skipped=rng.choice([0.0, 0.05, 0.3]),
        lost=rng.choice([0.0, 0.1, 0.5]),
        fork=rng.choice([0.0, 0.02, 0.1]),
        deep_fork=rng.choice([0.0, 0.1]),
        max_delay_slots=rng.choice([0, 2, 10]),
        clock_rate=rng.choice([1.0, 1.0, 0.97, 1.03]),
    )


def _providers(seed: int, count: int, chaos_s: float) -> tuple[tuple[Fault, ...], ...]:
    """At most one of them lies, and only while the others are well: one that answers alone is believed."""
    rng = _rng(seed, "liar")
    liar = rng.randrange(count) if count > 1 and rng.random() < 0.5 else None
    lies = () if liar is None else _faults(rng, _LIES, chaos_s)
    forger = _rng(seed, "forged accounts")
    if lies and forger.random() < 0.5:
        lies += _faults(forger, _FORGERIES, chaos_s)
    drawn = [_faults(_rng(seed, f"provider {at}"), _RPC_KINDS, chaos_s) for at in range(count)]
    return tuple(
        faults + lies if at == liar else tuple(fault for fault in faults if not _overlaps(fault, lies))
        for at, faults in enumerate(drawn)
    )


def _overlaps(fault: Fault, others: Sequence[Fault]) -> bool:
    return any(fault.start_s < one.end_s and one.start_s < fault.end_s + AFTERMATH_S for one in others)


def _faults(rng: random.Random, kinds: Sequence[tuple[str, float, range]], chaos_s: float) -> tuple[Fault, ...]:
    return tuple(draw(rng, kinds, chaos_s, rng.choice([8.0, 20.0, 60.0])))


def _lives(rng: random.Random, chaos_s: float) -> tuple[Life, ...]:
    lives: list[Life] = []
    if rng.random() < 0.3:
        return ()
    mean_s = rng.choice([4.0, 15.0, 60.0])
    at = 0.0
    while True:
        after_s = rng.expovariate(1 / mean_s)
        pause_s = rng.choice([0.1, 2.0, rng.uniform(1.0, 40.0)])
        at += after_s + pause_s
        if at > chaos_s:
            return tuple(lives)
        at_effect = rng.randint(1, 60) if rng.random() < 0.6 else None
        lives.append(Life(after_s, at_effect, at_effect is None and rng.random() < 0.3, pause_s))


def _mentions(rng: random.Random, chaos_s: float) -> tuple[float, ...]:
    return tuple(rng.uniform(1.0, chaos_s) for _ in range(rng.randint(0, 4)))


def _wishes(seed: int, chaos_s: float) -> tuple[Wish, ...]:
    wishes: list[Wish] = []
    for number in range(_rng(seed, "wishes").randint(1, 7)):
        rng = _rng(seed, f"wish {number}")
        execution = f"execution-{number // 2 if rng.random() < 0.3 else number}"
        wish = _wish(rng, chaos_s, execution, f"task-{number}")
        wishes.append(wish)
        if rng.random() < 0.1:  # somebody else wants the same pair
            wishes.append(_wish(rng, chaos_s, wish.execution_id, wish.task_id))
    return tuple(wishes)


def _wish(rng: random.Random, chaos_s: float, execution_id: str, task_id: str) -> Wish:
    outcome = rng.choice(_OUTCOMES)
    run_ms, store_ms = rng.choice([20, 500, 4_000, 20_000]), rng.choice([10, 300, 3_000])
    return Wish(
        execution_id=execution_id,
        task_id=task_id,
        requester=rng.randrange(REQUESTERS),
        begins_s=rng.uniform(0.0, chaos_s + 10.0),
        deadline_s=rng.choice([20, 45, 90, 200, 300]),
        reward=rng.randint(1_000_000, 9_000_000),
        model_id=f"m-{outcome}-{run_ms}-{store_ms}",
        outputs=rng.choice([1, 1, 2]),
        node=OTHER_NODE if rng.random() < 0.05 else None,
        cancels_s=rng.choice([0.5, 5.0, 25.0]) if rng.random() < 0.25 else None,
        again=rng.choice([0, 0, 0, 1, 2]),
        changes=rng.random() < 0.5,
        reclaims=rng.random() < 0.6,
    )
