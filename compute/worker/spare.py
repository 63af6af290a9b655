"""One process of a role that is always warm and not in use yet."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from compute.worker.answers import Greeting
from compute.worker.forks import ForkServer
from compute.worker.process import WorkerFailed, WorkerProcess
from compute.worker.wire import Role
from shared.backoff import Backoff
from shared.logs import fields

log = logging.getLogger(__name__)

RESTART = Backoff(base_s=0.5, cap_s=30.0)


class Spare:
    """Whoever takes it has it for good; the next one is made at once."""

    def __init__(self, role: Role, told: Callable[[Greeting | str], None]) -> None:
        """`told` hears the greeting of each one, or why there is none."""
        self.role = role
        self._told = told
        self._process: WorkerProcess | None = None
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()
        self._rng = random.Random()  # noqa: S311 # spreads restarts, keeps no secret

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def take(self) -> WorkerProcess:
        """A warm process, as soon as there is one."""
        async with self._turn, self._changed:
            taken = await self._warm()
            self._process = None
            self._changed.notify_all()
        return taken

    @asynccontextmanager
    async def held(self) -> AsyncIterator[WorkerProcess]:
        """A warm process, as soon as there is one; it stays the spare, and nobody takes it until the block ends."""
        async with self._turn:
            async with self._changed:
                process = await self._warm()
            yield process

    async def drop(self) -> None:
        """For when what it was made of is not trusted any more."""
        if self._process is not None:
            await self._process.kill()

    async def serve(self, server: ForkServer) -> None:
        """Until cancelled, or the server is gone."""
        tries = 0
        while True:
            try:
                process = await server.forked(self.role)
                greeting = await process.greeting()
            except WorkerFailed as exc:
                self._told(f"no {self.role}: {exc}")
                log.error("a worker did not start", extra=fields(role=self.role, why=str(exc)))
                await asyncio.sleep(RESTART.delay_s(tries, self._rng))
                tries += 1
                continue
            tries = 0
            self._told(greeting)
            log.info(
                "a worker is ready",
                extra=fields(role=self.role, pid=process.pid, device=greeting.device),
            )
            await self._offer(process)

    async def _warm(self) -> WorkerProcess:
        while self._process is None or not self._process.alive:
            await self._changed.wait()
        return self._process

    async def _offer(self, process: WorkerProcess) -> None:
        async with self._changed:
            self._process = process
            self._changed.notify_all()
        ended = asyncio.ensure_future(process.gone())
        taken = asyncio.ensure_future(self._taken())
        try:
            await asyncio.wait({ended, taken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (ended, taken):
                waiting.cancel()
            if self._process is process:
                self._process = None

    async def _taken(self) -> None:
        async with self._changed:
            while self._process is not None:
                await self._changed.wait()
