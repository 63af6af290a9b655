"""The device that the worker computes on: chosen by the setting, tried before it is trusted."""

import os
from contextlib import suppress

import torch

from compute.worker.lock.identity import die_with
from shared.errors import ConfigurationError

PROBE_SIDE = 64
KEPT_FROM_TENSORS_BYTES = 1 << 30
"""Of a device: for what is no tensor, and for the process that is asked whether the device is well."""


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
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def settle(device: torch.device) -> None:
    """Once in a process, before it computes: as its dtypes say, the same each time, and with a limit of memory."""
    if device.type != "cuda":
        return
    # TF32, which reads 10 bits of a float32's 23, is for products off by default and for convolutions on.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    # Not the algorithm that was fastest just now, nor one that adds in any order.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    total = torch.cuda.get_device_properties(device).total_memory
    kept = min(KEPT_FROM_TENSORS_BYTES, total // 8)
    torch.cuda.set_per_process_memory_fraction(1 - kept / total, device)


def use_in_this_thread(device: torch.device) -> None:
    """Torch's current device is each thread's own; without this, memory of the first one would be taken too."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def free_bytes(device: torch.device) -> int | None:
    """Of the device's memory, whoever uses it; None on the host. Raises RuntimeError."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def release_memory(device: torch.device) -> None:
    """What torch keeps for later is given back, in the one piece that another process may need.

    A device that cannot even do that says so when it is asked next.
    """
    if device.type == "cuda":
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


@torch.inference_mode()
def probe(device: torch.device) -> None:
    """Compute something whose result is known. Raises RuntimeError if the device gives another one."""
    ones = torch.ones(PROBE_SIDE, PROBE_SIDE, dtype=torch.float32, device=device)
    if (ones @ ones).sum().item() != PROBE_SIDE**3:
        raise RuntimeError(f"{device} multiplied wrongly")
