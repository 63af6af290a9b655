"""Runs the pieces of a model as tasks, one after the other: the next when the outputs of the last are checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from solders.pubkey import Pubkey

from compute.graph.cost import compute_units
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.graph.task_graph import TaskGraph
from compute.specs import TensorSpec
from requester.assign import Assigned, Assignment, assign, new_execution_id, new_task_id
from requester.patience import PATIENCE_S, patiently
from requester.publish import publish_tensors
from requester.published import PublishedPiece
from requester.session import Session
from requester.watch import Completed, watch
from shared.errors import ConfigurationError
from shared.ids import ExecutionId, Lamports, TaskKey, UnixSeconds
from shared.uris import TensorUri, parse_tensor_uri

NO_LIMIT: Final = 2**63


@dataclass(frozen=True, slots=True)
class Terms:
    """Who computes, for how much each task, and how long each may take (seconds by the chain's clock)."""

    node: Pubkey
    reward: Lamports
    time_s: int


class Progress(Protocol):
    """Told of each task as it goes; nothing of it is needed."""

    def assigning(self, number: int, assignment: Assignment, /) -> None:
        """Before it is sent: from now on a reward may be locked under its pair."""
        ...

    def assigned(self, number: int, task: Assigned, /) -> None: ...

    def completed(self, number: int, task: Completed, /) -> None: ...


@dataclass(frozen=True, slots=True)
class ChainResult:
    """`outputs` are the last piece's, by name."""

    execution_id: ExecutionId
    outputs: Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Stored:
    uri: str
    tensor: torch.Tensor


async def run_pieces(
    session: Session,
    pieces: Sequence[PublishedPiece],
    inputs: Mapping[str, torch.Tensor],
    terms: Terms,
    progress: Progress,
) -> ChainResult:
    """Publish `inputs` (by name), then assign and watch each piece.

    Raises ConfigurationError where an input is missing, and whatever assign and watch raise: then the pieces
    that follow are not assigned.
    """
    execution_id = new_execution_id()
    values = await _publish_inputs(session, inputs)
    for number, piece in enumerate(pieces):
        assignment = await plan(session, piece, values, execution_id, f"piece-{number}", terms)
        progress.assigning(number, assignment)
        assigned = await assign(session, assignment)
        progress.assigned(number, assigned)
        completed = await watch(session, assignment.pair, attempt=assigned.attempt, at_least=assigned.landed.slot)
        progress.completed(number, completed)
        for name, (uri, tensor) in zip(piece.outputs, completed.outputs, strict=True):
            values[name] = _Stored(uri, tensor)
    return ChainResult(execution_id, {name: values[name].tensor for name in pieces[-1].outputs})


async def plan(
    session: Session,
    piece: PublishedPiece,
    values: Mapping[str, _Stored],
    execution_id: ExecutionId,
    label: str,
    terms: Terms,
) -> Assignment:
    """The assignment of one piece, its computeUnits counted on the real shapes by the node's own code."""
    missing = [name for name in piece.activations if name not in values]
    if missing:
        raise ConfigurationError(f"the inputs lack {', '.join(missing)}; given are {', '.join(values)}")
    given = [values[name] for name in piece.activations]
    now = await patiently(session.rpc.get_clock, session.clock, PATIENCE_S)
    uris = [stored.uri for stored in given]
    return Assignment(
        pair=TaskKey(execution_id, new_task_id(label)),
        node=terms.node,
        model_id=piece.model_id,
        input_uris=(*uris, *([piece.weights_uri] if piece.weights_uri else [])),
        expected_output_count=len(piece.outputs),
        deadline=UnixSeconds(now + terms.time_s),
        compute_units=count_units(piece.graph, [stored.tensor for stored in given]),
        reward=terms.reward,
    )


def count_units(graph: TaskGraph, activations: Sequence[torch.Tensor]) -> int:
    """computeUnits of one run on tensors like these. Raises InputMismatch where they are not the graph's."""
    specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in activations]
    for weight in graph.inputs[len(specs) :]:
        lengths = tuple(length for length in weight.shape if isinstance(length, int))
        specs.append(TensorSpec(weight.dtype, lengths))
    return compute_units(graph, infer(graph, specs, max_bytes=NO_LIMIT))


async def _publish_inputs(session: Session, inputs: Mapping[str, torch.Tensor]) -> dict[str, _Stored]:
    """All in one object, each with a URI of its own."""
    stored = await publish_tensors(
        session.storage, session.publish_prefix, session.requester, list(inputs.values()), is_weights=False
    )
    place = parse_tensor_uri(stored).object
    return {
        name: _Stored(str(TensorUri(place, str(number))), tensor)
        for number, (name, tensor) in enumerate(inputs.items())
    }
