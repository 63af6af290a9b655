"""Which logs are parsed at all."""

import base64
import random

import pytest
from solders.pubkey import Pubkey

from listener.chain.sieve import Sieve
from tests.unit.chain_bytes import PROGRAM_ID
from tests.unit.listener_world import NODE
from tests.unit.mentions_bytes import assigned_event, cancelled_event, logs

SIEVE = Sieve(PROGRAM_ID, NODE)
OTHER = Pubkey([8] * 32)


@pytest.mark.parametrize("event", [assigned_event(), cancelled_event()])
def test_an_event_of_this_node_passes(event: bytes) -> None:
    assert SIEVE.may_tell(logs(event))


def test_wherever_the_key_stands_in_an_event_it_is_found() -> None:
    rng = random.Random(1)
    for length in range(100):
        node = Pubkey(rng.randbytes(32))
        event = rng.randbytes(length) + bytes(node) + rng.randbytes(rng.randrange(4))
        assert Sieve(PROGRAM_ID, node).may_tell(logs(event)), base64.b64encode(event)


@pytest.mark.parametrize(
    "foreign",
    [
        logs(assigned_event(node=OTHER)),
        logs(),
        (f"Program {OTHER} invoke [1]", "Program log: hello", f"Program {OTHER} success"),
        (f"Program {OTHER} invoke [1]", f"Program {OTHER} failed: custom program error: 0x1"),
    ],
)
def test_what_is_of_other_nodes_or_programs_does_not(foreign: tuple[str, ...]) -> None:
    assert not SIEVE.may_tell(foreign)


@pytest.mark.parametrize(
    "doubtful",
    [
        (),
        (*logs()[:1], "Log truncated", "Program log: short"),
        logs()[:1],
        logs()[1:],
        (*logs()[:1], f"Program {PROGRAM_ID} invoke [2]", f"Program {PROGRAM_ID} success", *logs()[1:]),
    ],
    ids=["no log", "truncated", "not closed", "not opened", "the program calls itself"],
)
def test_what_is_not_certain_is_looked_at_more_closely(doubtful: tuple[str, ...]) -> None:
    assert SIEVE.may_tell(doubtful)


def test_what_a_program_prints_may_only_cause_a_closer_look() -> None:
    lines = logs(assigned_event(node=OTHER))
    assert SIEVE.may_tell((lines[0], "Program log: x invoke [2]", *lines[1:]))
