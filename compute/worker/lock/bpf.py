"""A filter of system calls as a program of classic BPF, for the kernel to run before each call."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_AND = 0x54
ALLOW = 0x7FFF_0000
KILL_PROCESS = 0x8000_0000
_ERRNO = 0x0005_0000
# struct seccomp_data
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
MAX_INSTRUCTIONS = 4096


class Audit(IntEnum):
    """AUDIT_ARCH_*: by which architecture's table a call's number is to be read."""

    X86_64 = 0xC000_003E
    AARCH64 = 0xC000_00B7


X32_BIT = 0x4000_0000
"""Numbers above it are calls of the x32 ABI, under the same architecture as x86_64."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument that must be one of `values`, after `mask`: all its 64 bits, unless the kernel reads 32."""

    position: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    wide: bool = False


Rules = Mapping[int, Sequence[Argument]]
"""Number of each call that is allowed, and what its arguments must be."""


def errno_of(code: int) -> int:
    return _ERRNO | code


def assemble(audit: Audit, rules: Rules, errors: Mapping[int, int], otherwise: int) -> bytes:
    """The program: calls of another architecture kill, `errors` (by number) return that errno, the rest `otherwise`.

    Raises ValueError where it would be longer than the kernel takes.
    """
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_IF_EQUAL, audit, true=1),
        _step(_RETURN, KILL_PROCESS),
        _step(_LOAD, _NUMBER),
    ]
    if audit is Audit.X86_64:
        code += [_step(_JUMP_IF_AT_LEAST, X32_BIT, false=1), _step(_RETURN, KILL_PROCESS)]
    for number, error in errors.items():
        code += _if_number(number, [_step(_RETURN, errno_of(error))])
    for number, arguments in rules.items():
        code += _if_number(number, _checked(arguments, otherwise))
    code.append(_step(_RETURN, otherwise))
    if len(code) > MAX_INSTRUCTIONS:
        raise ValueError(f"a filter of {len(code)} instructions is longer than {MAX_INSTRUCTIONS}")
    return b"".join(code)


def _if_number(number: int, body: list[bytes]) -> list[bytes]:
    return [_step(_JUMP_IF_EQUAL, number, false=len(body)), *body]


def _checked(arguments: Sequence[Argument], otherwise: int) -> list[bytes]:
    body: list[bytes] = []
    for argument in arguments:
        offset = _ARGUMENTS + 8 * argument.position
        if argument.wide:
            body += [_step(_LOAD, offset + 4), _step(_JUMP_IF_EQUAL, 0, true=1), _step(_RETURN, otherwise)]
        body += [_step(_LOAD, offset), _step(_AND, argument.mask)]
        # Each match jumps over the other comparisons and the refusal behind them.
        for left, value in zip(range(len(argument.values), 0, -1), argument.values, strict=True):
            body.append(_step(_JUMP_IF_EQUAL, value, true=left))
        body.append(_step(_RETURN, otherwise))
    return [*body, _step(_RETURN, ALLOW)]


def _step(operation: int, value: int, *, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, true, false, value)
