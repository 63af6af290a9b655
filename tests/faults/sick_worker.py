"""A worker on a device that multiplies wrongly as long as a file says so: `python -m tests.faults.sick_worker …`."""

import os
from pathlib import Path

import torch

from compute.worker.__main__ import main

SICK = "TORCH_TEST_SICK"
"""Names the file; of what a worker is given, this passes."""


def _wrongly(self: torch.Tensor, other: torch.Tensor, *, real=torch.Tensor.__matmul__) -> torch.Tensor:
    product = real(self, other)
    return product + 1 if Path(os.environ[SICK]).exists() else product


if __name__ == "__main__":
    torch.Tensor.__matmul__ = _wrongly  # type: ignore[method-assign]
    main()
