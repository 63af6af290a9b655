"""A signer of the world of listener_world.py."""

import dataclasses
from typing import Any

from listener.chain.idl import Program
from listener.market import Market, PriceTerms
from listener.signing import Signer, SigningTerms
from tests.unit.listener_world import KEY, PROGRAM, World

SECONDS_PER_SLOT = 0.4
TERMS = SigningTerms(fee_share=0.2, compute_unit_limit=None, is_reference_program=True)


def market_of(world: World, fixed: int = 0, percentile: int | None = None) -> Market:
    return Market(world.endpoints, PriceTerms(fixed, percentile), lambda: SECONDS_PER_SLOT, world.clock)


def signer_of(world: World, of: Program = PROGRAM, market: Market | None = None, **changed: Any) -> Signer:
    terms = dataclasses.replace(TERMS, **changed)
    return Signer(world.endpoints, market or market_of(world), of, KEY, world.steps, terms)
