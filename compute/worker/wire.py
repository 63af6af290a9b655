"""What API process and worker say to each other: JSON packets, with shared memory passed beside them.

A request is `{"number", "operation", "stop", "sizes"}` and one descriptor for each size. For a plan these are the
`Job` and room for the answer, for a run the `Job`, the outputs and the inputs, for a probe none. The answer is
`{"number"}`, with `error` where the request failed. The worker's first packet is its greeting and has no number.
"""

import array
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from compute.specs import DType, TensorSpec

MAX_PACKET_BYTES = 64 << 10
MAX_BUFFERS = 16
MAX_ANSWER_BYTES = 1 << 20
"""Room for the answer to a plan: 255 outputs of 64 dimensions each take less."""
MAX_ERROR_CHARACTERS = 4_000
_LENGTH_BYTES = 8


class Operation(StrEnum):
    PLAN = "plan"
    RUN = "run"
    PROBE = "probe"


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
    head = json.dumps(specs).encode("ascii")
    return len(head).to_bytes(_LENGTH_BYTES, "little") + head + job.package


def decode_job(data: bytes) -> Job:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    specs = json.loads(data[_LENGTH_BYTES:end])
    inputs = tuple(_specs_from_json(group) for group in specs["inputs"])
    return Job(data[end:], inputs, _specs_from_json(specs["outputs"]))


def encode_plan(plan: Plan) -> bytes:
    members = {
        "outputs": _specs_to_json(plan.outputs),
        "computeUnits": plan.compute_units,
        "peakBytes": plan.peak_bytes,
    }
    data = json.dumps(members).encode("ascii")
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def decode_plan(data: bytes) -> Plan:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    members = json.loads(data[_LENGTH_BYTES:end])
    return Plan(_specs_from_json(members["outputs"]), members["computeUnits"], members["peakBytes"])


def send_packet(sock: socket.socket, members: dict[str, Any], fds: Sequence[int] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([json.dumps(members).encode("ascii")], rights)


def receive_packet(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next packet and its descriptors, which the caller closes; None at the end of the connection."""
    packed = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(MAX_PACKET_BYTES, socket.CMSG_SPACE(MAX_BUFFERS * packed.itemsize))
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            packed.frombytes(rights[: len(rights) - len(rights) % packed.itemsize])
    for fd in packed:
        os.set_inheritable(fd, False)
    return (json.loads(data), list(packed)) if data else None


def _specs_to_json(specs: Sequence[TensorSpec]) -> list[tuple[str, tuple[int, ...]]]:
    return [(spec.dtype, spec.shape) for spec in specs]


def _specs_from_json(values: list[tuple[str, list[int]]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(DType(dtype), tuple(shape)) for dtype, shape in values)
