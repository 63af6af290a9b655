"""Running pieces one after the other in this process, to compare them with the unsplit model."""

from collections.abc import Mapping, Sequence

import torch

from compute.worker.program import Program
from requester.split import Piece

CPU = torch.device("cpu")


def run_pieces(pieces: Sequence[Piece], inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The last piece's outputs; `inputs` are the model's by name."""
    values = dict(inputs)
    outputs: list[torch.Tensor] = []
    for piece in pieces:
        given = [*(values[name] for name in piece.activations), *piece.weights.values()]
        outputs = Program(piece.graph).run(given, lambda: False, CPU)
        values |= dict(zip(piece.outputs, outputs, strict=True))
    return outputs
