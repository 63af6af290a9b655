"""The device that the worker computes on: chosen by the setting, tried before it is trusted."""

import os

import torch

from compute.worker.lock.identity import die_with
from shared.errors import ConfigurationError

PROBE_SIDE = 64


def sees_cuda() -> bool:
    """Whether torch has a CUDA device here. Asked in a process of its own: the driver must not wake before a fork."""
    if torch.version.cuda is None:
        return False
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        has_none = True
        try:
            die_with(parent)
            has_none = not torch.cuda.is_available()
        finally:  # whatever happened: there is one fork server only
            os._exit(has_none)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def choose_device(setting: str) -> torch.device:
    """`cpu`, `cuda` or `cuda:N`. Raises ConfigurationError for one that is not there."""
    device = torch.device(setting)
    count = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigurationError(
            f"SPLITUP_DEVICE is {setting}, but torch {torch.__version__} sees {count} CUDA devices here; "
            "set it to cpu or auto, or install a torch with CUDA and the driver"
        )
    return device


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def release_memory(device: torch.device) -> None:
    """What torch keeps for later is given back, in the one piece that the next task may need."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@torch.inference_mode()
def probe(device: torch.device) -> None:
    """Compute something whose result is known. Raises RuntimeError if the device gives another one."""
    ones = torch.ones(PROBE_SIDE, PROBE_SIDE, dtype=torch.float32, device=device)
    if (ones @ ones).sum().item() != PROBE_SIDE**3:
        raise RuntimeError(f"{device} multiplied wrongly")
