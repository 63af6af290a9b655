"""Many seeds, on every core."""

import multiprocessing
import os
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.simulation import Outcome, simulate


def run_seeds(seeds: Sequence[int]) -> Iterator[Outcome]:
    """Their outcomes in order. A run that raises is a problem of its seed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        yield from pool.map(run, seeds, chunksize=5)


def run(seed: int) -> Outcome:
    try:
        return simulate(seed)
    except Exception as error:  # noqa: BLE001 # of the simulation or of the listener: the seed is told with it
        told = "".join(traceback.format_exception(error))
        return Outcome(seed, (f"it raised {told}",), digest="", trace=(), virtual_s=0.0, tasks={})
