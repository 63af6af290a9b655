"""A model whose weights and signal take a byte for each number: float8, widened where it is computed with."""

import torch
from torch import nn
from torch.export import Dim

from examples.models.model import BATCH, LENGTH, Model, drawn

FEATURES, HIDDEN = 16, 24
CHANNELS = Dim("channels", min=1, max=16)
FLOAT8 = torch.float8_e4m3fn
COARSE = torch.float8_e5m2


class Narrow(nn.Module):
    """A signal, float8 [batch, length, channels, 16], to float32 [batch, channels, 16]: two layers and their mean."""

    widen: torch.Tensor
    narrow: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("widen", torch.randn(HIDDEN, FEATURES).to(FLOAT8))
        self.register_buffer("narrow", torch.randn(FEATURES, HIDDEN).to(FLOAT8))
        self.register_buffer("scale", torch.rand(HIDDEN, 1) / 8)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.linear(signal.float(), self.widen.float() * self.scale)
        # As between two devices: what crosses is a byte for each number again.
        hidden = torch.relu(hidden).to(COARSE)
        return nn.functional.linear(hidden.float(), self.narrow.float()).mean(dim=1)


NARROW = Model(
    name="Two layers in float8",
    build=Narrow,
    inputs=lambda shape: (drawn((*shape, FEATURES), FLOAT8),),
    dimensions="batch, length, channels",
    dynamic_shapes=({0: BATCH, 1: LENGTH, 2: CHANNELS},),
    shapes=((2, 16, 3), (1, 2, 1), (3, 7, 5), (2, 130, 16)),
    pieces=2,
)
