"""Indices are looked at before torch is: on a device an index out of range ends the whole process."""

from collections.abc import Callable, Mapping, Sequence

import torch

from shared.errors import ComputationFailed


def check_indices(operator: str, arguments: Mapping[str, object]) -> None:
    """Waits for the device. Raises ComputationFailed where an index lies outside of its dimension."""
    _CHECKS[operator](arguments)


def _within(indices: torch.Tensor, lowest: int, length: int) -> None:
    if not indices.numel():
        return
    least, most = (int(bound) for bound in torch.aminmax(indices))
    if least < lowest or most >= length:
        raise ComputationFailed(f"indices from {least} to {most} are outside of a dimension of length {length}")


def _embedding(arguments: Mapping[str, object]) -> None:
    weight, indices = arguments["weight"], arguments["indices"]
    assert isinstance(weight, torch.Tensor) and isinstance(indices, torch.Tensor)
    _within(indices, 0, weight.shape[0])


def _along(arguments: Mapping[str, object]) -> None:
    source, dim, index = arguments["self"], arguments["dim"], arguments["index"]
    assert isinstance(source, torch.Tensor) and isinstance(dim, int) and isinstance(index, torch.Tensor)
    _within(index, 0, source.shape[dim] if source.dim() else 1)


def _index(arguments: Mapping[str, object]) -> None:
    source, indices = arguments["self"], arguments["indices"]
    assert isinstance(source, torch.Tensor) and isinstance(indices, Sequence)
    for length, index in zip(source.shape, indices, strict=False):
        if isinstance(index, torch.Tensor):
            _within(index, -length, length)


_CHECKS: Mapping[str, Callable[[Mapping[str, object]], None]] = {
    "aten.embedding.default": _embedding,
    "aten.gather.default": _along,
    "aten.index_select.default": _along,
    "aten.index.Tensor": _index,
}

INDEXING = frozenset(_CHECKS)
"""The operators that take indices."""
