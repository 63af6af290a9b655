"""The listener on a virtual clock in a simulated world. A failing seed is printed with the command that replays it."""

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.__main__ import told
from tests.simulation.many import run, run_seeds
from tests.simulation.seeds import FOUND

FULL = os.environ.get("FULL") == "1"
SEEDS = 5_000 if FULL else 100
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", FOUND)
def test_what_a_seed_once_found_is_found_no_more(seed: int) -> None:
    outcome = run(seed)
    assert not outcome.problems, told(outcome)


@pytest.mark.timeout(7_200 if FULL else 1_200)
def test_the_books_of_chain_journal_and_compute_agree_in_every_new_world() -> None:
    base = random.SystemRandom().randrange(10**9)
    outcomes = list(run_seeds(range(base, base + SEEDS)))
    failed = [told(outcome) for outcome in outcomes if outcome.problems]
    assert not failed, f"{len(failed)} of {SEEDS} seeds:\n" + "\n".join(failed)
    tasks: Counter[str] = Counter()
    for outcome in outcomes:
        tasks.update(outcome.tasks)
    assert {"paid", "failed", "cancelled", "missed"} <= tasks.keys(), f"from seed {base} on: {tasks}"


@pytest.mark.timeout(600)
def test_a_seed_replays_exactly_in_another_process() -> None:
    script = (
        "from tests.simulation.simulation import simulate\nprint([simulate(seed).digest for seed in (71, 72)])"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
