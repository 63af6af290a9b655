"""Runs pieces as a node runs them, one after the other, beside the unsplit module."""

from collections.abc import Sequence

import torch

from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.specs import TensorSpec
from compute.worker.program import Program
from requester.split import Piece

CPU = torch.device("cpu")
NO_LIMIT = 2**62


def run_pieces(pieces: Sequence[Piece], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The last piece's outputs; `inputs` are the model's in order. Each piece's shapes are inferred before."""
    values = dict(zip(model_inputs(pieces), inputs, strict=True))
    outputs: list[torch.Tensor] = []
    for piece in pieces:
        given = [*(values[name] for name in piece.activations), *piece.weights.values()]
        inferred = infer(piece.graph, specs_of(given), max_bytes=NO_LIMIT).outputs
        outputs = Program(piece.graph).run(given, lambda: False, CPU)
        if tuple(specs_of(outputs)) != inferred:
            raise AssertionError(f"inferred {inferred}, but the run gave {specs_of(outputs)}")
        values |= dict(zip(piece.outputs, outputs, strict=True))
    return outputs


def model_inputs(pieces: Sequence[Piece]) -> list[str]:
    """The names under which the pieces know the whole model's inputs, in its order."""
    made = {name for piece in pieces for name in piece.outputs}
    return list(dict.fromkeys(name for piece in pieces for name in piece.activations if name not in made))


def specs_of(tensors: Sequence[torch.Tensor]) -> list[TensorSpec]:
    return [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in tensors]


def difference(module: torch.nn.Module, pieces: Sequence[Piece], inputs: tuple[torch.Tensor, ...]) -> float:
    """The largest absolute difference between the pieces' output and the unsplit module's."""
    with torch.inference_mode():
        expected = module(*inputs)
    (given,) = run_pieces(pieces, inputs)
    if (given.dtype, given.shape) != (expected.dtype, expected.shape):
        raise AssertionError(f"the module gives {specs_of([expected])}, the pieces {specs_of([given])}")
    return float((given.double() - expected.double()).abs().max())
