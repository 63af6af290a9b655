"""Keeps each LSTM of a module whole while the module is exported; torch would unroll it for one length."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from compute.graph.recurrent import infer_lstm
from shared.errors import CannotSplit

Forward = Callable[..., tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]

LSTM = "splitup.lstm.default"
"""The operator that stands in exported programs for aten.lstm.input, with the arguments of the same names."""


@torch.library.custom_op("splitup::lstm", mutates_args=())
def _lstm(
    input: torch.Tensor,  # torch's name
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    raise NotImplementedError("it is exported, never run")


@_lstm.register_fake
def _shapes(
    input: torch.Tensor,  # torch's name
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    given = {
        "input": input,
        "hx": hx,
        "params": params,
        "has_biases": has_biases,
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
    }
    outputs, hidden, cell = infer_lstm(given)
    return outputs, hidden, cell


@contextmanager
def whole_recurrences(module: torch.nn.Module) -> Iterator[None]:
    """Within it the LSTMs in `module` call the operator LSTM. Raises CannotSplit for one with projections."""
    found = [each for each in module.modules() if isinstance(each, torch.nn.LSTM)]
    for each in found:
        if each.proj_size:
            raise CannotSplit("an LSTM with projections has no operator in the allowlist")
        vars(each)["forward"] = _forward_of(each)
    try:
        yield
    finally:
        for each in found:
            del vars(each)["forward"]


def _forward_of(lstm: torch.nn.LSTM) -> Forward:
    def forward(
        signal: torch.Tensor, states: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        if signal.dim() != 3:
            raise CannotSplit("an LSTM takes a batch of sequences, a tensor of 3 dimensions")
        if states is None:
            layers = lstm.num_layers * (2 if lstm.bidirectional else 1)
            batch = signal.shape[0 if lstm.batch_first else 1]
            zeros = signal.new_zeros(layers, batch, lstm.hidden_size)
            states = (zeros, zeros)
        weights = [getattr(lstm, name) for name in lstm._flat_weights_names]
        outputs, hidden, cell = torch.ops.splitup.lstm(
            signal, list(states), weights, lstm.bias, lstm.num_layers, lstm.bidirectional, lstm.batch_first
        )
        return outputs, (hidden, cell)

    return forward
