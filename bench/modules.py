"""Runs one module of lines. What goes wrong in it takes no other module's lines away."""

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType

from bench.lines import Line, not_measured


def name_of(module: ModuleType) -> str:
    """As `--only` takes it."""
    return module.__name__.rpartition(".")[2]


async def lines_of(module: ModuleType, measure: Callable[[], Awaitable[Sequence[Line]]]) -> Sequence[Line]:
    """What it measures, or one line that says why there is nothing. Its progress goes to stderr."""
    name = name_of(module)
    _tell(f"{name} …")
    begun = time.monotonic()
    lines: Sequence[Line]
    try:
        lines = await measure()
    except Exception as exc:  # noqa: BLE001 # whatever it is, the lines of the others are worth having
        lines = [not_measured(name, exc)]
    for line in lines:
        _tell(f"  {line}")
    _tell(f"{name}: {time.monotonic() - begun:.0f} s" + ("" if lines else ", nothing to measure with here"))
    return lines


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
