"""The sentence model and its pieces, made once for all tests of a run."""

from functools import cache

import torch

from requester.split import Piece, split_model
from tests.needs import absent

try:
    from examples import minilm
except ImportError:
    minilm = None  # type: ignore[assignment] # the tests below are skipped


@cache
def model() -> torch.nn.Module:
    """The real model, or the test is skipped where its packages are not installed."""
    if minilm is None:
        absent("transformers is not installed: the sentence model's code comes from it")
    try:
        return minilm.load()
    except ModuleNotFoundError as missing:
        absent(str(missing))
        raise


@cache
def pieces() -> list[Piece]:
    """Three pieces of two layers each."""
    return split_model(model(), minilm.EXAMPLE_INPUTS, minilm.DYNAMIC_SHAPES, cut_points=minilm.CUT_POINTS)
