"""Files that were written long enough ago for compute to keep their tensors as weights."""

import time
from pathlib import Path

from compute.storage.file_versions import file_version
from compute.storage.store import is_weak


def wait_until_settled(path: Path) -> None:
    while is_weak(file_version(path.stat(), time.time_ns())):
        time.sleep(0.01)


def write_settled(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    wait_until_settled(path)
