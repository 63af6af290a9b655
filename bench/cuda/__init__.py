"""The device's chapter: what is measured with a CUDA device; without one its lines say that they were not.

Each module has its lines without figures (`LINES`) and `measure`, which fills them in.
"""

from functools import partial
from types import ModuleType
from typing import Final

from bench.cuda import busy, graphs, to_device, weights
from bench.lines import Line
from bench.modules import lines_of, name_of
from tests.cuda.device import no_device

MODULES: Final[tuple[ModuleType, ...]] = (busy, to_device, weights, graphs)


async def measure(*, is_tiny: bool = False, only: str | None = None) -> list[Line]:
    """`only` is the name of a module."""
    lines: list[Line] = []
    for module in MODULES:
        if only not in (None, name_of(module)):
            continue
        if no_device() is None:
            lines += await lines_of(module, partial(module.measure, is_tiny=is_tiny))
        else:
            lines += [Line(line.line, "not measured here: no CUDA device", None) for line in module.LINES]
    return lines
