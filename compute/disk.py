"""Room on the disks that compute writes to."""

import os
from pathlib import Path

from shared.errors import StateUnavailable

LEAST_ROOM_BYTES = 1 << 20
"""With less, what is begun could not be kept."""


def check_room(setting: str, folder: Path) -> None:
    """Raises StateUnavailable where the file system of `folder` is full. A folder that is not there is not judged."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < LEAST_ROOM_BYTES:
        raise StateUnavailable(f"{setting} {folder}: only {free} bytes are free; make room on its disk")
