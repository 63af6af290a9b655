"""A process that the fork server made, as the API process sees it: it can be killed, and how it ended is told."""

import asyncio
import contextlib
import os
import signal


def how_it_ended(code: int) -> str:
    """An exit status, or a signal's negative number, in words that follow "ended"."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"


class Forked:
    """Its number may be another's once it has ended; the descriptor never is."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.orphaned = False
        """Ended because its fork server did, as far as anyone can tell: then nothing that it did was the cause."""
        self._pidfd = pidfd
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        if not self._status.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def ended(self, status: int) -> None:
        """To be called once, with the exit status or a signal's negative number."""
        self._status.set_result(status)
        os.close(self._pidfd)

    def orphan(self) -> None:
        """To be called once instead of `ended`, when nobody is left to tell how it ended: it is killed."""
        self.kill()
        self.orphaned = True
        self.ended(-signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(self._status)
