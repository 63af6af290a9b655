"""A signer, and what pays for it, in the world of listener_world.py."""

import dataclasses
from typing import Any

from listener.chain.idl import Program
from listener.failure_budget import FailureBudget
from listener.market import Market, PriceTerms
from listener.purse import Purse
from listener.signing import Signer, SigningTerms
from listener.unit_meter import UnitMeter
from tests.unit.listener_world import KEY, NODE, PROGRAM, World

SECONDS_PER_SLOT = 0.4
TERMS = SigningTerms(
    fee_share=0.2,
    compute_unit_limit=None,
    failure_budget=FailureBudget(100_000, 50_000),
    allowlist=frozenset(),
)


def market_of(world: World, fixed: int = 0, percentile: int | None = None) -> Market:
    return Market(world.endpoints, PriceTerms(fixed, percentile), lambda: SECONDS_PER_SLOT, world.clock)


def purse_of(world: World) -> Purse:
    return Purse(world.agreement, world.journal, NODE, world.clock)


def signer_of(
    world: World,
    of: Program = PROGRAM,
    market: Market | None = None,
    *,
    is_reference_program: bool = True,
    **changed: Any,
) -> Signer:
    return Signer(
        world.agreement,
        market or market_of(world),
        UnitMeter(world.endpoints, of, NODE, is_reference_program=is_reference_program),
        purse_of(world),
        of,
        KEY,
        world.steps,
        dataclasses.replace(TERMS, **changed),
    )
