"""What the table of models needs of each: a module, how it is exported and cut, and shapes to try it at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.export import Dim

from requester.split import Piece, split_model

Shape = tuple[int, ...]
BATCH = Dim("batch", min=1, max=64)
LENGTH = Dim("length", min=2, max=512)
SEED = 0


@dataclass(frozen=True, slots=True)
class Model:
    """`inputs` gives tensors for a shape, whose lengths are those of `dimensions`; the first shape is exported.

    `tolerance`: the largest absolute difference from the unsplit module that is allowed.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    inputs: Callable[[Shape], tuple[torch.Tensor, ...]]
    dimensions: str
    dynamic_shapes: object
    shapes: Sequence[Shape]
    pieces: int = 3
    tolerance: float = 1e-5

    def module(self) -> torch.nn.Module:
        """The same weights each time."""
        torch.manual_seed(SEED)
        return self.build().eval()

    def split(self, module: torch.nn.Module) -> list[Piece]:
        return split_model(module, self.inputs(self.shapes[0]), self.dynamic_shapes, pieces=self.pieces)


def drawn(shape: Shape, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers that depend on the shape alone."""
    return torch.randn(shape, generator=_generator(shape)).to(dtype)


def words(shape: Shape, vocabulary: int) -> torch.Tensor:
    """int64, each from 0 to `vocabulary` - 1."""
    return torch.randint(0, vocabulary, shape, generator=_generator(shape))


def _generator(shape: Shape) -> torch.Generator:
    return torch.Generator().manual_seed(sum(length * 31**place for place, length in enumerate(shape)))
