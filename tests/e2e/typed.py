"""`splitup-node` as somebody types it, with what it says."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("splitup-node")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    status: int
    output: str
    errors: str


async def typed(settings: Mapping[str, str], *words: object) -> Said:
    """Run it with these settings, and none of our own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPLITUP_")}
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *map(str, words),
        env={**inherited, **settings},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, output.decode(), errors.decode())
