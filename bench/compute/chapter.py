"""Compute's chapter: each line, or a few that belong together, is a module with `measure`."""

from functools import partial
from types import ModuleType
from typing import Final

from bench.compute import (
    minilm_piece,
    pipelining,
    request_overhead,
    s3_get,
    s3_put,
    s3_tls,
    s3_verified,
    small_tasks,
    weights,
)
from bench.lines import Line
from bench.modules import lines_of, name_of

MODULES: Final[tuple[ModuleType, ...]] = (
    s3_get,
    s3_tls,
    s3_verified,
    s3_put,
    small_tasks,
    minilm_piece,
    request_overhead,
    pipelining,
    weights,
)


async def measure(*, is_tiny: bool = False, only: str | None = None) -> list[Line]:
    """`only` is the name of a module."""
    lines: list[Line] = []
    for module in MODULES:
        if only in (None, name_of(module)):
            lines += await lines_of(module, partial(module.measure, is_tiny=is_tiny))
    return lines
