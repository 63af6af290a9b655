"""What a hostile chain can write into a log, and what can be broken in JSON: drawn from a seed."""

import base64
import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from solders.pubkey import Pubkey

from tests.unit.chain_bytes import PROGRAM_ID
from tests.unit.listener_world import NODE
from tests.unit.mentions_bytes import assigned_event, cancelled_event

OURS = str(PROGRAM_ID)
STRANGERS = [Pubkey([number] * 32) for number in (21, 22, 23)]
LOG_LIMIT = 10_000
"""Bytes after which the runtime leaves a line out, and says so once."""
MAX_DEPTH = 5


@dataclass
class Run:
    """One transaction as the runtime would log it, and what our program really wrote."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    calls_itself: bool = False

    @property
    def log(self) -> tuple[str, ...]:
        """As the runtime keeps it: a line that does not fit any more is left out, shorter ones may still come."""
        kept: list[str] = []
        size, is_truncated = 0, False
        for line in self.lines:
            if size + len(line.encode()) <= LOG_LIMIT:
                size += len(line.encode())
                kept.append(line)
            elif not is_truncated:
                is_truncated = True
                kept.append("Log truncated")
        return tuple(kept)


def transaction_log(rng: random.Random) -> Run:
    run = Run(rng)
    for _ in range(rng.randint(1, 3)):
        _invoke(run, rng.choice([OURS, *map(str, STRANGERS)]), 1, None)
    return run


def _invoke(run: Run, program: str, depth: int, caller: str | None) -> None:
    run.lines.append(f"Program {program} invoke [{depth}]")
    run.calls_itself |= program == caller == OURS
    for _ in range(run.rng.randint(0, 4)):
        match run.rng.randrange(6):
            case 0 if depth < MAX_DEPTH:
                _invoke(run, run.rng.choice([OURS, *map(str, STRANGERS)]), depth + 1, program)
            case 1 | 2:
                raw = event(run.rng)
                run.lines.append(f"Program data: {base64.b64encode(raw).decode()}")
                if program == OURS:
                    run.written.append(raw)
            case 3:
                run.lines.append(f"Program data: {run.rng.choice(NO_BASE64)}")
            case _:
                run.lines.append(f"Program log: {printed(run.rng)}")
    if run.rng.random() < 0.5:
        run.lines.append(f"Program {program} consumed 1234 of 200000 compute units")
    is_caught = depth > 1 and run.rng.random() < 0.1
    run.lines.append(
        f"Program {program} failed: custom program error: 0x1" if is_caught else f"Program {program} success"
    )


NO_BASE64 = ["=", "AAAA AAAA", "a", "\u00e9\u00e9\u00e9\u00e9", "A" * 5, "AAA=A"]


def event(rng: random.Random) -> bytes:
    """One of this node's or of another's, whole or spoiled."""
    node = rng.choice([NODE, STRANGERS[0]])
    make: Callable[[Pubkey], bytes] = rng.choice([assigned_event, cancelled_event])
    return spoiled(make(node), rng) if rng.random() < 0.4 else make(node)


def printed(rng: random.Random) -> str:
    """What any program may print: also what looks like the runtime's own lines."""
    data = base64.b64encode(assigned_event()).decode()
    return rng.choice(
        [
            "hello",
            "x" * rng.choice([10, 1_000, 6_000]),
            f"Program data: {data}",
            f"\nProgram data: {data}",
            f"Program {OURS} invoke [1]",
            f"x\nProgram {OURS} success",
            "Log truncated",
            f"success failed: invoke [{rng.randrange(3)}]",
            "".join(chr(rng.choice([0, 10, 27, 0x202E, 0xD7FF, 0x1F600])) for _ in range(rng.randrange(9))),
        ]
    )


def spoiled(raw: bytes, rng: random.Random) -> bytes:
    """Some bytes other, more or fewer: lengths, UTF-8 and what trails are then wrong."""
    changed = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                del changed[at:]
            case 1:
                changed[at:at] = rng.randbytes(rng.randint(1, 8))
            case 2:
                changed[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"])
            case _:
                changed[at : at + 1] = rng.randbytes(1)
    return bytes(changed)


def broken(document: Any, rng: random.Random) -> Any:
    """A copy in which one place, somewhere, holds what does not belong there, or nothing."""
    copied = copy.deepcopy(document)
    at = copied
    while True:
        keys: list[Any] = (
            list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
        )
        if not keys:
            return copied
        key = rng.choice(keys)
        if rng.random() < 0.4 or not isinstance(at[key], dict | list):
            _break(at, key, rng)
            return copied
        at = at[key]


def _break(parent: Any, key: Any, rng: random.Random) -> None:
    if rng.random() < 0.2:
        del parent[key]
    elif rng.random() < 0.1 and isinstance(parent, list):
        parent.extend(parent * rng.randint(1, 3))
    else:
        parent[key] = anything(rng)


def anything(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, such as one that is out of range, or deep."""
    match rng.randrange(10 if depth < 3 else 7):
        case 0:
            return None
        case 1:
            return rng.choice([True, False])
        case 2:
            return rng.choice([-1, 0, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**400])
        case 3:
            return rng.choice([0.5, -0.0, 1e308, float("nan"), float("inf")])
        case 4 | 5:
            return rng.choice(["", "x", "\ud800", "1" * 64, "1" * 20_000, "\0", str(NODE), OURS, "finalized"])
        case 6:
            return rng.choice([{}, []])
        case 7:
            return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
        case 8:
            return {rng.choice(["slot", "err", "logs", "value", "x"]): anything(rng, depth + 1)}
        case _:
            deep: Any = 0
            for _ in range(rng.choice([5, 100, 400])):
                deep = [deep]
            return deep
