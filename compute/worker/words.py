"""What workers write to standard output and error: C libraries' last words, or whatever a stranger's code writes."""

import asyncio
import logging
import os
import select

from shared.logs import fields

log = logging.getLogger(__name__)

MAX_LINES = 200
"""Of one fork server and its workers together, in a PERIOD_S: a log must not grow by a stranger's will."""
PERIOD_S = 3600.0
MAX_LINE_BYTES = 500
READ_BYTES = 64 << 10
PAUSE_S = 0.1
"""Between two readings of READ_BYTES at most, so that whoever writes without end takes no time from the service."""


class Words:
    """Reads the pipe to its end and logs the first lines of each period.

    Whoever writes faster than that loses what does not fit, as long as the other end does not block.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left = MAX_LINES
        self._loop = asyncio.get_running_loop()
        self._period_began = self._loop.time()
        self._pause: asyncio.TimerHandle | None = None
        os.set_blocking(fd, False)
        self._listen()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._heard)

    def _heard(self) -> None:
        self._read()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(PAUSE_S, self._listen)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._end()
            return
        if self._loop.time() - self._period_began >= PERIOD_S:
            self._period_began, self._left = self._loop.time(), MAX_LINES
        if self._left > 0:
            self._log(data)

    def _log(self, data: bytes) -> None:
        for line in data.splitlines():
            if self._left > 0 and line.strip():
                self._left -= 1
                text = line[:MAX_LINE_BYTES].decode("ascii", "backslashreplace")
                log.warning("a worker writes", extra=fields(text=text, more_lines_shown=self._left))

    def close(self) -> None:
        """What was written before is still read, as much as the pipe holds."""
        for _ in range(2):
            if self._fd >= 0 and select.select([self._fd], [], [], 0)[0]:
                self._read()
        self._end()

    def _end(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
