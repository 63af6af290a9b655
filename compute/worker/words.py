"""What workers write to standard output and error: C libraries' last words, or whatever a stranger's code writes."""

import asyncio
import logging
import os
import select

from shared.logs import fields

log = logging.getLogger(__name__)

MAX_LINES = 200
"""Of one fork server and its workers together: a log must not grow by a stranger's will."""
MAX_LINE_BYTES = 500
_READ_BYTES = 64 << 10


class Words:
    """Reads the pipe to its end, so that nobody who writes ever waits, and logs the first lines."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left = MAX_LINES
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._end()
            return
        for line in data.splitlines():
            if self._left > 0 and line.strip():
                self._left -= 1
                text = line[:MAX_LINE_BYTES].decode("ascii", "backslashreplace")
                log.warning("a worker writes", extra=fields(text=text, more_lines_shown=self._left))

    def close(self) -> None:
        """What was written before is still read."""
        while self._fd >= 0 and select.select([self._fd], [], [], 0)[0]:
            self._read()
        self._end()

    def _end(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
