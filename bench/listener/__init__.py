"""The listener's chapter: each line, or a few that belong together, is a module with `measure`."""

from functools import partial
from types import ModuleType
from typing import Final

from bench.lines import Line, not_measured
from bench.listener import (
    billing,
    catching_up,
    foreign_notices,
    journal_size,
    notice_to_post,
    throughput,
    to_confirmed,
)
from bench.modules import lines_of, name_of
from cli.localnet import local_network

ALONE: Final[tuple[ModuleType, ...]] = (notice_to_post, foreign_notices, journal_size, catching_up)
ON_CHAIN: Final[tuple[ModuleType, ...]] = (to_confirmed, throughput, billing)
"""They share one real validator."""


async def measure(*, is_tiny: bool = False, only: str | None = None) -> list[Line]:
    """`only` is the name of a module."""
    lines: list[Line] = []
    for module in _wanted(ALONE, only):
        lines += await lines_of(module, partial(module.measure, is_tiny=is_tiny))
    if on_chain := _wanted(ON_CHAIN, only):
        try:
            async with local_network(chain="validator") as net:
                for module in on_chain:
                    lines += await lines_of(module, partial(module.measure, net, is_tiny=is_tiny))
        except Exception as exc:  # noqa: BLE001 # without a chain the other lines are still worth having
            lines.append(not_measured("lines on a chain", exc))
    return lines


def _wanted(modules: tuple[ModuleType, ...], only: str | None) -> list[ModuleType]:
    return [module for module in modules if only in (None, name_of(module))]
