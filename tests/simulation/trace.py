"""What happened, line by line: hashed, so that two runs can be compared, and kept where somebody wants to read it."""

import asyncio
import hashlib
import logging
from typing import Final

MAX_LINES: Final = 50_000
"""Far more than any run has; somebody asks without end."""


class Trace(logging.Handler):
    """What the listener logs stands between the lines where they are kept; it is not hashed."""

    def __init__(self, *, is_kept: bool) -> None:
        super().__init__()
        self._hash = hashlib.sha256()
        self._is_kept = is_kept
        self._count = 0
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        told = f"{asyncio.get_running_loop().time():10.3f} {line}"
        self._hash.update(told.encode())
        self._count += 1
        if self._count > MAX_LINES:
            raise RuntimeError(f"more than {MAX_LINES} lines, the last: {line}")
        if self._is_kept:
            self.lines.append(told)

    def emit(self, record: logging.LogRecord) -> None:
        told = f"{asyncio.get_running_loop().time():10.3f}     {record.levelname} {record.getMessage()}"
        self.lines.append(f"{told} {getattr(record, 'fields', '')}")
        if record.exc_info and record.exc_info[1] is not None:
            self.lines.append(repr(record.exc_info[1]))

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
