"""What the checks of single operators are made of: a node's arguments, references resolved to tensors on meta."""

from collections.abc import Mapping

import torch

from shared.errors import GraphInvalid

Given = Mapping[str, object]
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
MAX_LENGTH = 2**31 - 1
"""Some kernels narrow lengths to 32 bits."""


def require(holds: bool, otherwise: str) -> None:
    """Raises GraphInvalid where it does not hold."""
    if not holds:
        raise GraphInvalid(otherwise)


def tensor(given: Given, name: str) -> torch.Tensor:
    value = given[name]
    assert isinstance(value, torch.Tensor)
    return value


def require_numbers(signal: torch.Tensor) -> None:
    """A tensor of floats with at least one element and lengths of 31 bits."""
    require(signal.dtype in FLOATS, f"{str(signal.dtype).removeprefix('torch.')} is no dtype for it")
    require(signal.numel() > 0, "a tensor has no elements")
    require(max(signal.shape, default=1) <= MAX_LENGTH, "a length is 2^31 or more")
