"""`python -m tests.simulation --seeds N` runs new seeds; `--replay SEED` runs one again and tells all of it."""

import argparse
import random
import sys
from typing import Final

from tests.simulation.many import run_seeds
from tests.simulation.simulation import Outcome, simulate

PROGRESS: Final = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--base", type=int, help="the first of them; none draws one")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this one alone and print its trace")
    asked = parser.parse_args()
    if asked.replay is not None:
        outcome = simulate(asked.replay, keep_trace=True)
        print(*outcome.trace, sep="\n")
        print(told(outcome))
        return 1 if outcome.problems else 0
    base = random.SystemRandom().randrange(10**9) if asked.base is None else asked.base
    print(f"seeds {base} to {base + asked.seeds - 1}", flush=True)
    failed = 0
    for done, outcome in enumerate(run_seeds(range(base, base + asked.seeds))):
        if done % PROGRESS == 0 < done:
            print(f"{done} of {asked.seeds} run, {failed} failed", file=sys.stderr, flush=True)
        if outcome.problems:
            failed += 1
            print(told(outcome), flush=True)
    print(f"{asked.seeds} runs, {failed} failed")
    return 1 if failed else 0


def told(outcome: Outcome) -> str:
    what = "\n  ".join(outcome.problems) or f"well: {outcome.tasks}"
    again = f"again: python -m tests.simulation --replay {outcome.seed}"
    return f"seed {outcome.seed}, {outcome.virtual_s:.0f} s, trace {outcome.digest[:16]}\n  {what}\n  {again}"


if __name__ == "__main__":
    sys.exit(main())
