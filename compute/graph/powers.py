"""What is refused of a power."""

import torch

from compute.graph.requirements import Given, require


def check_power(given: Given) -> None:
    """Raises GraphInvalid for two bools, whose power is inferred as int64 and computed as bool, or not at all."""
    require(not all(map(_is_bool, (given["self"], given["exponent"]))), "two bools have no power")


def _is_bool(value: object) -> bool:
    return value.dtype is torch.bool if isinstance(value, torch.Tensor) else isinstance(value, bool)
