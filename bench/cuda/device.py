"""The device as figures name it, and how long it works on something."""

from collections.abc import Callable
from typing import Final

import torch

from compute.worker.device import settle

DEVICE: Final = torch.device("cuda", 0)


def device_name() -> str:
    return torch.cuda.get_device_name(DEVICE)


def as_a_worker_computes() -> None:
    settle(DEVICE)
    torch.cuda.set_device(DEVICE)


def device_ms(work: Callable[[], object], times: int) -> float:
    """Milliseconds of the device for one of `times` that follow each other, by its own clock."""
    for _ in range(3):  # libraries load and choose, memory is taken
        work()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(DEVICE)
    begin.record()
    for _ in range(times):
        work()
    end.record()
    torch.cuda.synchronize(DEVICE)
    return begin.elapsed_time(end) / times
