"""What is refused of normalisations over channels before torch is asked. The checks raise GraphInvalid."""

import torch

from compute.graph.requirements import Given, require, require_numbers, tensor


def check_batch_norm(given: Given) -> None:
    signal = _signal(given)
    _check_channels(signal, [given[name] for name in ("weight", "bias", "running_mean", "running_var")])


def check_group_norm(given: Given) -> None:
    signal, groups = _signal(given), given["num_groups"]
    assert isinstance(groups, int)
    require(groups >= 1 and signal.shape[1] % groups == 0, f"{signal.shape[1]} channels in {groups} groups")
    _check_channels(signal, [given.get("weight"), given.get("bias")])


def _signal(given: Given) -> torch.Tensor:
    signal = tensor(given, "input")
    require(signal.dim() >= 2, f"an input of at least 2 dimensions is wanted, not {signal.dim()}")
    require_numbers(signal)
    return signal


def _check_channels(signal: torch.Tensor, values: list[object]) -> None:
    held = [value for value in values if isinstance(value, torch.Tensor)]
    require(all(each.shape == signal.shape[1:2] for each in held), f"{signal.shape[1]} numbers each are wanted")
    dtypes = {each.dtype for each in held}
    require(len(dtypes) <= 1 and dtypes <= {signal.dtype, torch.float32}, "the dtypes do not fit each other")
