"""What API process, fork server and workers say to each other: JSON packets, with descriptors passed beside them.

A request to a worker is `{"number", "operation", "stop", "sizes"}` and one descriptor for each size. For a plan these
are the `Job` and room for the answer, for a run the `Job`, the outputs and the inputs, for a probe none. The first of
them and a run's inputs can only be read. A run has `keep` beside, for each input a number or null: the worker computes
from the copy on the device that it has under this number, else it makes one and keeps it. `drop` has `numbers`, of
copies that it forgets, and is answered once their memory was given back. The answer is `{"number"}`, with `error` where
the request failed, and to a probe of a device `freeBytes`, what it has free. A worker's first packet is its greeting
and has no number.

A worker may be in a stranger's hands: what it says is read by `answers.py`.
"""

import array
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from compute.specs import DType, TensorSpec

MAX_PACKET_BYTES = 64 << 10
MAX_BUFFERS = 16
STOP_SLOTS = 256
"""Bytes of the stop page: more than there are requests at once."""
MAX_ANSWER_BYTES = 1 << 20
"""Room for the answer to a plan: 255 outputs of 64 dimensions each take less."""
MAX_ERROR_CHARACTERS = 4_000
_LENGTH_BYTES = 8


class Role(StrEnum):
    """What a process of the fork server is for."""

    WORKER = "worker"
    PLANNER = "planner"


class Operation(StrEnum):
    PLAN = "plan"
    RUN = "run"
    PROBE = "probe"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the worker holds a package to."""

    max_graph_bytes: int
    max_graph_nodes: int
    max_task_bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A package with the tensors that go in (`inputs`, one tuple for each buffer) and, for a run, come out."""

    package: bytes
    inputs: tuple[tuple[TensorSpec, ...], ...]
    outputs: tuple[TensorSpec, ...] = ()

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(spec for specs in self.inputs for spec in specs)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a run before it: what comes out, what it costs, the most bytes that it holds at once."""

    outputs: tuple[TensorSpec, ...]
    compute_units: int
    peak_bytes: int


def encode_job(job: Job) -> bytes:
    """Eight bytes of length, the specs as JSON, the package."""
    specs = {"inputs": [_specs_to_json(group) for group in job.inputs], "outputs": _specs_to_json(job.outputs)}
    return framed(specs) + job.package


def decode_job(data: bytes) -> Job:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    specs = json.loads(data[_LENGTH_BYTES:end])
    inputs = tuple(_specs_from_json(group) for group in specs["inputs"])
    return Job(data[end:], inputs, _specs_from_json(specs["outputs"]))


def encode_plan(plan: Plan) -> bytes:
    return framed(
        {
            "outputs": _specs_to_json(plan.outputs),
            "computeUnits": plan.compute_units,
            "peakBytes": plan.peak_bytes,
        }
    )


def framed(members: dict[str, Any]) -> bytes:
    """Eight bytes of length, the members as JSON."""
    data = json.dumps(members).encode("ascii")
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def unframed(data: memoryview) -> bytes:
    """The JSON of `framed`, copied once: whoever wrote it may still be writing. Raises ValueError."""
    length = int.from_bytes(bytes(data[:_LENGTH_BYTES]), "little")
    if length > len(data) - _LENGTH_BYTES:
        raise ValueError(f"{length} bytes are said to lie in {len(data)}")
    return bytes(data[_LENGTH_BYTES : _LENGTH_BYTES + length])


def send_packet(sock: socket.socket, members: dict[str, Any], fds: Sequence[int] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([json.dumps(members).encode("ascii")], rights)


def receive_packet(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next packet and its descriptors, which the caller closes; None at the end of the connection."""
    packed = array.array("i")
    room = socket.CMSG_SPACE(MAX_BUFFERS * packed.itemsize)
    data, ancillary, _, _ = sock.recvmsg(MAX_PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            packed.frombytes(rights[: len(rights) - len(rights) % packed.itemsize])
    return (json.loads(data), list(packed)) if data else None


def _specs_to_json(specs: Sequence[TensorSpec]) -> list[tuple[str, tuple[int, ...]]]:
    return [(spec.dtype, spec.shape) for spec in specs]


def _specs_from_json(values: list[tuple[str, list[int]]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(DType(dtype), tuple(shape)) for dtype, shape in values)
