"""What a worker says, read as what a stranger may have written: strict JSON, known members, bounded sizes.

Everything here raises ValueError for what no worker of ours says; the worker is then killed.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from compute.specs import MAX_DIMENSIONS, MAX_ELEMENTS, DType, TensorSpec
from compute.strict_json import parse_strict_json
from compute.worker.lock.sandbox import Part, Sandbox
from compute.worker.wire import MAX_ERROR_CHARACTERS, MAX_PACKET_BYTES, Plan, unframed
from shared.errors import TASK_REASONS, ComputationFailed, TaskError

MAX_OUTPUTS = 255
_MAX_COUNT = 2**63 - 1

_ERRORS: Mapping[str, type[TaskError]] = {
    error.__name__: error for error in TaskError.__subclasses__() if error.__name__ in TASK_REASONS
}


@dataclass(frozen=True, slots=True)
class Answer:
    """To the request of this number; `error` where it failed. To a probe of a device: what it has free, whoever
    uses it."""

    number: int
    error: TaskError | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Greeting:
    """Of a worker that is ready: what it computes on, and what holds it."""

    device: str
    """For people."""
    on_host: bool
    """It computes in this machine's own memory."""
    sandbox: Sandbox
    free_bytes: int | None = None
    """Of the device's memory, while this worker holds nothing in it; None on the host."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Of a worker that cannot serve."""

    why: str


def receive_answer(sock: socket.socket) -> bytes | None:
    """The next packet; None at the end of the connection.

    There is no room for descriptors, so the kernel closes any that a worker sends.
    """
    data, _, flags, _ = sock.recvmsg(MAX_PACKET_BYTES)
    if flags & socket.MSG_TRUNC:
        raise ValueError(f"a packet is longer than {MAX_PACKET_BYTES} bytes")
    return data or None


def parse_answer(data: bytes) -> Answer | Greeting | Refusal:
    members = _members(parse_strict_json(data))
    if members.keys() == {"failed"}:
        return Refusal(_text(members["failed"]))
    if members.keys() == {"device", "onHost", "sandbox", "freeBytes"}:
        free = members["freeBytes"]
        return Greeting(
            _text(members["device"]),
            _flag(members["onHost"]),
            _sandbox(members["sandbox"]),
            None if free is None else _count(free),
        )
    if not {"number"} <= members.keys() <= {"number", "error", "freeBytes"}:
        raise ValueError(f"an answer has the members {sorted(members)[:8]!a}")
    return Answer(
        _count(members["number"]),
        _error(members["error"]) if "error" in members else None,
        _count(members["freeBytes"]) if "freeBytes" in members else None,
    )


def parse_plan(room: memoryview) -> Plan:
    """What `encode_plan` wrote. A plan beyond what a tensor can be is none."""
    members = _members(parse_strict_json(unframed(room)))
    if members.keys() != {"outputs", "computeUnits", "peakBytes"}:
        raise ValueError(f"a plan has the members {sorted(members)[:8]!a}")
    outputs = _list(members["outputs"], MAX_OUTPUTS)
    counts = (_count(members[name]) for name in ("computeUnits", "peakBytes"))
    return Plan(tuple(map(_spec, outputs)), *counts)


def _error(value: object) -> TaskError:
    reason, message = _list(value, 2)
    return _ERRORS.get(_text(reason), ComputationFailed)(_text(message))


def _sandbox(value: object) -> Sandbox:
    members = _members(value)
    if members.keys() != {"held", "gaps"}:
        raise ValueError("a greeting tells of no sandbox")
    gaps = {str(Part(name)): _text(why) for name, why in _members(members["gaps"]).items()}
    return Sandbox(tuple(Part(_text(name)) for name in _list(members["held"], len(Part))), gaps)


def _spec(value: object) -> TensorSpec:
    dtype, shape = _list(value, 2)
    spec = TensorSpec(DType(_text(dtype)), tuple(map(_count, _list(shape, MAX_DIMENSIONS))))
    if spec.elements > MAX_ELEMENTS:
        raise ValueError(f"an output has {spec.elements} elements")
    return spec


def _members(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} stands where an object must")
    return value


def _list(value: object, longest: int) -> list[object]:
    if not isinstance(value, list) or len(value) > longest:
        raise ValueError(f"no list of at most {longest} stands where one must")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise ValueError("no whole number stands where one must")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false stands where one must")
    return value


def _text(value: object) -> str:
    """Printable, whatever it was."""
    if not isinstance(value, str) or len(value) > MAX_ERROR_CHARACTERS:
        raise ValueError(f"no text of at most {MAX_ERROR_CHARACTERS} characters stands where one must")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in value
    )
