"""Prints docs/models.md: each model exported, cut, run and compared. `python -m examples.models > docs/models.md`."""

import math
import sys
import warnings

import torch
import transformers

from examples.models.catalogue import MODELS
from examples.models.compare import difference
from examples.models.model import Model

INTRODUCTION = f"""# Models

Which kinds of models a task graph can hold, shown with small ones of random weights: each is exported once with its
dynamic dimensions, cut into pieces of about even cost, and each piece is run by the node's own program code, at
shapes that it was not exported at too. The difference is the largest absolute one between an element of the last
piece's output and of the unsplit module's. Transformers are those of the package `transformers`
{transformers.__version__}; torch is {torch.__version__.partition("+")[0]}, on a CPU.

This page is what `python -m examples.models > docs/models.md` prints; `tests/unit/test_split_models.py` holds each
row to its tolerance.

| Model | Pieces | Nodes | Dynamic dimensions | Shapes | Largest difference | Tolerance |
|---|---|---|---|---|---|---|"""


def row(model: Model) -> str:
    module = model.module()
    pieces = model.split(module)
    differences = [difference(module, pieces, model.inputs(shape)) for shape in model.shapes]
    nodes = ", ".join(str(len(piece.graph.nodes)) for piece in pieces)
    shapes = ", ".join("x".join(map(str, shape)) for shape in model.shapes)
    largest = max(differences)
    if not largest <= model.tolerance:
        raise SystemExit(f"{model.name} differs by {largest}; at most {model.tolerance} is allowed")
    return (
        f"| {model.name} | {len(pieces)} | {nodes} | {model.dimensions} | {shapes} | "
        f"{_rounded_up(largest)} | {model.tolerance:.0e} |"
    )


def _rounded_up(difference: float) -> str:
    """To one digit, so that the page is the same on machines that differ in the last bits."""
    if not difference:
        return "0"
    exponent = math.floor(math.log10(difference))
    return f"{math.ceil(difference / 10**exponent) * 10**exponent:.0e}"


def main() -> None:
    warnings.simplefilter("ignore")  # torch.export and transformers speak to their own developers
    sys.stdout.write(INTRODUCTION + "\n")
    for model in MODELS:
        sys.stdout.write(row(model) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
