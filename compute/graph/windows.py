"""What is refused of operators that slide a window over an image or a signal, or change its size.

torch looks at most of this only when it computes, on some devices not even then. The checks raise GraphInvalid.
"""

import math
from collections.abc import Sequence

import torch

from compute.graph.requirements import MAX_LENGTH, Given, require, require_numbers, tensor

MAX_STEP = 1 << 16
"""Longest window, stride and dilation; torch narrows some of them to 32 bits."""


def check_convolution(given: Given) -> None:
    signal, weight, bias = tensor(given, "input"), tensor(given, "weight"), given["bias"]
    dimensions = signal.dim() - 2
    require(1 <= dimensions <= 3, f"an input of 3 to 5 dimensions is wanted, not {signal.dim()}")
    require(weight.dim() == signal.dim(), f"the weight has {weight.dim()} dimensions, the input {signal.dim()}")
    require_numbers(signal)
    require_numbers(weight)
    require(weight.dtype == signal.dtype, "input and weight have different dtypes")
    stride, dilation = (_ints(given, name, dimensions, 1, MAX_STEP) for name in ("stride", "dilation"))
    padding, extra = (_ints(given, name, dimensions, 0, MAX_STEP) for name in ("padding", "output_padding"))
    groups, transposed = given["groups"], given["transposed"]
    require(isinstance(groups, int) and 1 <= groups <= signal.shape[1], f"{groups} groups are not possible")
    assert isinstance(groups, int)
    taken, given_channels = (
        (weight.shape[0], weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, weight.shape[0])
    )
    require(taken == signal.shape[1], f"the weight takes {taken} channels, the input has {signal.shape[1]}")
    require(weight.shape[0] % groups == 0, f"{weight.shape[0]} channels do not fall into {groups} groups")
    if isinstance(bias, torch.Tensor):
        require(
            bias.shape == (given_channels,) and bias.dtype == signal.dtype,
            f"the bias must be one of {given_channels} numbers of the input's dtype",
        )
    for place, (length, window) in enumerate(zip(signal.shape[2:], weight.shape[2:], strict=True)):
        reach = dilation[place] * (window - 1) + 1
        require(padding[place] <= dilation[place] * window, f"padding {padding[place]} is beyond the window")
        if transposed:
            require(extra[place] < max(stride[place], dilation[place]), "output_padding is not below the stride")
            shortest = (length - 1) * stride[place] - 2 * padding[place] + reach + extra[place]
            require(1 <= shortest <= MAX_LENGTH, f"the output would have the length {shortest}")
        else:
            require(not extra[place], "output_padding is for transposed convolutions only")
            require(reach <= length + 2 * padding[place], "the window is longer than the padded input")


def check_pool(given: Given) -> None:
    image = tensor(given, "self")
    require(image.dim() in (3, 4), f"an input of 3 or 4 dimensions is wanted, not {image.dim()}")
    require_numbers(image)
    window = _pair(given, "kernel_size", 1)
    if given.get("stride"):
        _pair(given, "stride", 1)
    dilation = _pair(given, "dilation", 1) if "dilation" in given else [1, 1]
    padding = _pair(given, "padding", 0) if "padding" in given else [0, 0]
    for length, size, apart, beside in zip(image.shape[-2:], window, dilation, padding, strict=True):
        require(beside <= size // 2, f"padding {beside} is more than half of the window {size}")
        require(apart * (size - 1) + 1 <= length + 2 * beside, "the window is longer than the padded input")
    divisor = given.get("divisor_override")
    require(divisor is None or (isinstance(divisor, int) and 0 < divisor <= MAX_LENGTH), "no such divisor")


def check_adaptive_pool(given: Given) -> None:
    image = tensor(given, "self")
    require(image.dim() in (3, 4), f"an input of 3 or 4 dimensions is wanted, not {image.dim()}")
    require_numbers(image)
    _ints(given, "output_size", 2, 1, MAX_STEP)


def check_resize(given: Given) -> None:
    image = tensor(given, "input")
    require(image.dim() == 4, f"an input of 4 dimensions is wanted, not {image.dim()}")
    require_numbers(image)
    size, scales = given["output_size"], given["scale_factors"]
    require((size is None) != (scales is None), "either output_size or scale_factors is wanted")
    if size is not None:
        _ints(given, "output_size", 2, 1, MAX_LENGTH)
        return
    assert isinstance(scales, Sequence)
    require(len(scales) == 2, "two scale_factors are wanted")
    for length, scale in zip(image.shape[2:], scales, strict=True):
        require(math.isfinite(scale) and 0 < scale <= MAX_STEP, f"{scale} is no scale factor")
        require(1 <= length * scale <= MAX_LENGTH, f"{scale} times {length} is no length")


def _ints(given: Given, name: str, count: int, least: int, most: int) -> list[int]:
    value = given[name]
    assert isinstance(value, Sequence)
    require(len(value) == count, f"{name} must have {count} numbers, not {len(value)}")
    require(all(least <= each <= most for each in value), f"{name} must lie from {least} to {most}")
    return list(value)


def _pair(given: Given, name: str, least: int) -> list[int]:
    """One number for both directions, or two."""
    value = given[name]
    assert isinstance(value, Sequence)
    pair = list(value) * 2 if len(value) == 1 else list(value)
    return _ints({name: pair}, name, 2, least, MAX_STEP)
