"""A small model, as an author hands it to `splitup-node split`."""

import torch
from torch.export import Dim

FEATURES = 8


class Small(torch.nn.Module):
    """x, float32 [rows, 8], to float32 [rows, 3]."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = torch.nn.Linear(FEATURES, 16)
        self.second = torch.nn.Linear(16, 3)
        for parameter in self.parameters():
            parameter.data = torch.rand(parameter.shape, generator=generator) - 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        return torch.softmax(self.second(hidden), dim=-1)


def author() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], object]:
    return Small().eval(), (torch.zeros(4, FEATURES),), ({0: Dim("rows", min=1, max=1024)},)
