"""Which files a locked process may read, by the moment of its life."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from compute.worker.lock.landlock import READ, USE_DEVICE, Access

Files = Mapping[Path, Access]

# Where this program's own packages lie: the folder that has `compute` and `shared` in it is not readable as a whole.
_PACKAGES = Path(__file__).parents[2]
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/dev/urandom")
_PROCESSORS = ("/sys/devices/system/cpu", "/sys/devices/system/node")
# What NVIDIA's driver opens in user space besides its libraries.
_DRIVER_READS = (
    "/proc/devices",
    "/proc/driver/nvidia",
    "/proc/driver/nvidia-caps",
    "/proc/driver/nvidia-uvm",
    "/proc/sys/vm",
    "/proc/modules",
    "/sys/bus/pci",
    "/sys/devices",
    "/sys/module/nvidia",
    "/usr/local/cuda",
    "/usr/local/nvidia",
    "/usr/share/nvidia",
    "/etc/nvidia",
)
_DRIVER_DEVICES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps", "nvidia[0-9]*")
_DEV = Path("/dev")
_NAME_THREADS = READ | Access.WRITE_FILE | Access.TRUNCATE
"""The driver gives its threads names by writing `/proc/PID/task/TID/comm`, and where it may not (EACCES), cuInit
fails with error 304: https://github.com/nolabs-ai/nono/issues/924."""


def has_cuda_devices() -> bool:
    return any(_DEV.glob("nvidia[0-9]*"))


def while_importing(*, cuda: bool) -> Files:
    """Python, torch, and what they ask about the machine; with `cuda` all that any later moment may need.

    Of /proc all, since the folders of processes that are made later have no names yet.
    """
    if not cuda:
        return _libraries() | {Path("/proc"): READ}
    return _libraries() | _driver() | {Path("/proc"): _NAME_THREADS}


def with_cuda() -> Files:
    """While tasks run on a GPU: the driver loads libraries and reads its files whenever it pleases."""
    told = dict.fromkeys(map(Path, ("/proc/self", "/proc/cpuinfo", "/proc/meminfo")), READ)
    return _libraries() | _driver() | told | {Path("/proc/self/task"): _NAME_THREADS}


NOTHING: Files = {}
"""While tasks run on the host, or are planned."""


def _libraries() -> dict[Path, Access]:
    folders = [Path(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)]
    folders += [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    folders += [_PACKAGES, _PACKAGES.parent / "shared"]
    folders += map(Path, (*_SYSTEM, *_PROCESSORS))
    return dict.fromkeys(folders, READ)


def _driver() -> dict[Path, Access]:
    devices = [device for pattern in _DRIVER_DEVICES for device in _DEV.glob(pattern)]
    # Where the operator says that libraries lie; an empty entry would be the current folder.
    elsewhere = [entry for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry.startswith("/")]
    return dict.fromkeys(map(Path, (*_DRIVER_READS, *elsewhere)), READ) | dict.fromkeys(devices, USE_DEVICE)
