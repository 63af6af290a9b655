"""What an LSTM gives, from its shapes alone: torch would unroll it, step by step, to find out."""

from collections.abc import Sequence

import torch

from compute.graph.requirements import FLOATS, Given, require, tensor

GATES = 4


def infer_lstm(given: Given) -> list[torch.Tensor]:
    """Outputs, last hidden state and last cell state on meta. Raises GraphInvalid where the shapes do not fit."""
    signal, states, weights = tensor(given, "input"), _tensors(given, "hx"), _tensors(given, "params")
    layers, batch_first = given["num_layers"], given["batch_first"]
    assert isinstance(layers, int)
    directions = 2 if given["bidirectional"] else 1
    require(signal.dim() == 3 and signal.dtype in FLOATS, "an input of 3 dimensions and a float dtype is wanted")
    require(signal.numel() > 0, "the input has no elements")
    require(all(each.dtype == signal.dtype for each in (*states, *weights)), "the dtypes differ")
    length, batch = (signal.shape[1], signal.shape[0]) if batch_first else (signal.shape[0], signal.shape[1])
    require(len(states) == 2 and states[0].dim() == 3, "hx must be two tensors of 3 dimensions")
    hidden = states[0].shape[2]
    state = (layers * directions, batch, hidden)
    require(all(tuple(each.shape) == state for each in states), f"hx must have the shape {list(state)}")
    require(layers >= 1 and hidden >= 1, "a layer with a hidden state is wanted")
    count = layers * directions * (4 if given["has_biases"] else 2)
    fitting = len(weights) == count and [tuple(each.shape) for each in weights] == _weight_shapes(
        signal.shape[2], hidden, layers, directions, bool(given["has_biases"])
    )
    require(fitting, f"params must be {count} tensors, for each layer and direction those of {GATES} gates")
    shape = (batch, length, hidden * directions) if batch_first else (length, batch, hidden * directions)
    return [signal.new_empty(shape), signal.new_empty(state), signal.new_empty(state)]


def _weight_shapes(
    features: int, hidden: int, layers: int, directions: int, biases: bool
) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers):
        taken = hidden * directions if layer else features
        one = [(GATES * hidden, taken), (GATES * hidden, hidden)]
        shapes += (one + [(GATES * hidden,)] * (2 if biases else 0)) * directions
    return shapes


def _tensors(given: Given, name: str) -> list[torch.Tensor]:
    value = given[name]
    assert isinstance(value, Sequence)
    return list(value)
