"""A process of the local network: in a group of its own, its output in a file, gone when we are gone."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import LocalNetworkFailed

STOP_S: Final = 15.0
"""After SIGTERM so long, then SIGKILL."""
LOOK_EVERY_S: Final = 0.05
SHOWN_OF_LOG: Final = 2000
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Child:
    """`name` is for messages; `log` holds what it writes to standard error, and output unless that is a pipe."""

    name: str
    process: Process
    log: Path

    def check(self) -> None:
        """Raises LocalNetworkFailed, with the end of its log, if it has ended."""
        if self.process.returncode is not None:
            raise LocalNetworkFailed(
                f"{self.name} ended with {self.process.returncode}; the end of its log: {self.log_end()}"
            )

    def log_end(self) -> str:
        return self.log.read_text(errors="replace")[-SHOWN_OF_LOG:].strip() or "(empty)"

    async def until(self, true: Callable[[], Awaitable[bool]], what: str, limit_s: float) -> None:
        """Wait until `true()`. Raises LocalNetworkFailed if the process ends before, or it takes too long."""
        end = time.monotonic() + limit_s
        while not await true():
            self.check()
            if time.monotonic() > end:
                raise LocalNetworkFailed(
                    f"{self.name}: {what} not within {limit_s:.0f} s; the end of its log: {self.log_end()}"
                )
            await asyncio.sleep(LOOK_EVERY_S)

    async def stop(self) -> int:
        """Ask it to stop, force it after STOP_S, and see to it that nothing of its group is left."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return await self.process.wait()


@asynccontextmanager
async def running(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    pipes: bool = False,
) -> AsyncIterator[Child]:
    """The process until the block ends. With `pipes` its standard input and output are ours, else nobody's."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=PIPE if pipes else DEVNULL,
            stdout=PIPE if pipes else output,
            stderr=output,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        await child.stop()


_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """In the child, before exec: SIGTERM when the parent dies, however it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
