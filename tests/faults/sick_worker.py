"""Workers on a device that multiplies wrongly while a file's byte is set: `python -m tests.faults.sick_worker …`."""

import mmap
import os
from pathlib import Path

import torch

from compute.worker.__main__ import main

SICK = "TORCH_TEST_SICK"
"""Names the file; of what a worker is given, this passes."""
# Mapped before the lock: a worker can open nothing.
with Path(os.environ.get(SICK, os.devnull)).open("rb") as _file:
    _page = mmap.mmap(_file.fileno(), 1, prot=mmap.PROT_READ) if SICK in os.environ else b"\0"


def _wrongly(self: torch.Tensor, other: torch.Tensor, *, real=torch.Tensor.__matmul__) -> torch.Tensor:
    product = real(self, other)
    return product + 1 if _page[0] else product


if __name__ == "__main__":
    torch.Tensor.__matmul__ = _wrongly  # type: ignore[method-assign]
    main()
