"""From a transaction's log to the events of one program, by the invocation stack.

Only a `Program data:` line written while the program was on top of the stack is an event of it. What any
program may print (`Program log:`) proves nothing, and a log with a gap proves nothing at all.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.answers import InnerInstruction

MAX_STACK: Final = 64
"""Far above what the runtime allows."""
EMIT_CPI_TAG: Final = bytes.fromhex("e445a52e51cb9a1d")
"""How Anchor's emit_cpi begins the data of the instruction in which a program calls itself."""
TRUNCATED: Final = "Log truncated"
"""What the runtime writes for the first line that does not fit any more; shorter ones may still come after it."""
FIRST_CPI_INDEX: Final = 1 << 20
"""Events of inner instructions are numbered from here, so that none shares a number with one of the log."""

_KEY: Final = "[1-9A-HJ-NP-Za-km-z]{32,44}"
_INVOKED: Final = re.compile(rf"Program ({_KEY}) invoke \[([0-9]{{1,3}})\]")
_ENDED: Final = re.compile(rf"Program ({_KEY}) (?:success|failed: .*)", re.DOTALL)
_DATA: Final = "Program data: "


@dataclass(frozen=True, slots=True)
class ParsedLogs:
    """`events` are (index, bytes) in their order. `truncated`: the log has a gap, so nothing in it counts.

    `calls_itself`: the program may have written events that are not in the log.
    """

    events: tuple[tuple[int, bytes], ...] = ()
    truncated: bool = False
    calls_itself: bool = False


_WITH_A_GAP: Final = ParsedLogs(truncated=True)


def parse_logs(logs: Sequence[str], program_id: str) -> ParsedLogs:
    """Find the program's events. `index` counts its `Program data:` lines, those that are not base64 included.

    Without any line the provider keeps no logs, which is a gap too.
    """
    stack: list[str] = []
    events: list[tuple[int, bytes]] = []
    written = 0
    calls_itself = False
    for line in logs:
        if line == TRUNCATED:
            return _WITH_A_GAP
        if line.startswith(_DATA):
            if not stack:
                return _WITH_A_GAP
            if stack[-1] == program_id:
                written += 1
                if (raw := _decoded(line.removeprefix(_DATA))) is not None:
                    events.append((written - 1, raw))
        elif not _follow(stack, line):
            return _WITH_A_GAP
        else:
            calls_itself = calls_itself or stack[-2:] == [program_id, program_id]
    return _WITH_A_GAP if stack or not logs else ParsedLogs(tuple(events), calls_itself=calls_itself)


def _follow(stack: list[str], line: str) -> bool:
    """Keep the stack up to date. False where the line cannot follow what came before it."""
    if invoked := _INVOKED.fullmatch(line):
        stack.append(invoked[1])
        return int(invoked[2]) == len(stack) <= MAX_STACK
    if ended := _ENDED.fullmatch(line):
        return bool(stack) and stack.pop() == ended[1]
    return True


def _decoded(text: str) -> bytes | None:
    """One base64 text; a line of several is no event."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def cpi_events(
    top_level_program: Pubkey, called: Sequence[InnerInstruction], keys: Sequence[Pubkey], program_id: Pubkey
) -> list[bytes]:
    """Events that the program wrote by `emit_cpi` below one top-level instruction: it calls itself with the tag.

    `called` is what that instruction called, in order; `keys` are the transaction's static and loaded keys. Where
    one cannot stand where it does, nothing of them counts.
    """
    callers: dict[int, Pubkey] = {1: top_level_program}
    events = []
    for instruction in called:
        height = instruction.stack_height
        if height is None or height < 2 or height - 1 not in callers or instruction.program_index >= len(keys):
            return []
        callee = keys[instruction.program_index]
        is_own_call = callee == program_id and callers[height - 1] == program_id
        if is_own_call and instruction.data.startswith(EMIT_CPI_TAG):
            events.append(instruction.data.removeprefix(EMIT_CPI_TAG))
        callers = {known: key for known, key in callers.items() if known < height} | {height: callee}
    return events
