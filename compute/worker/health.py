"""Whether device and workers compute as they should. Of the device only a process answers that no stranger has used."""

import asyncio
import logging
from contextlib import suppress

from compute.worker.process import NotTaken, WorkerGone, WorkerProcess
from compute.worker.spare import Spare
from compute.worker.tenancy import Tenancy
from compute.worker.wire import Operation
from shared.errors import OutOfMemory
from shared.logs import fields

log = logging.getLogger(__name__)

PROBE_S = 20.0
"""A device that is busy with others' work answers late; one that takes longer is taken for silent."""


class Health:
    def __init__(self, spare: Spare, tenancy: Tenancy) -> None:
        self._spare = spare
        self._tenancy = tenancy

    async def check_device(self) -> None:
        """A small computation by the spare, as soon as there is one. Raises WorkerGone, NotTaken or TaskError.

        Where the device does not compute as it should, all its workers are ended, so that fresh ones take it over.
        Where it has no memory left, those that are idle are: they keep some for later. A spare that says nothing
        within PROBE_S is ended alone.
        """
        try:
            async with asyncio.timeout(PROBE_S), self._spare.held() as worker:
                answer = await worker.request(Operation.PROBE)
        except TimeoutError as exc:
            raise WorkerGone(f"the device gave no answer within {PROBE_S:g} s", culprit=False) from exc
        if isinstance(answer.error, OutOfMemory):
            log.warning("the device is full; idle workers are ended", extra=fields(why=str(answer.error)))
            await self._tenancy.end_idle()
        elif answer.error is not None:
            log.error("the device is sick; its workers are replaced", extra=fields(why=str(answer.error)))
            await self._tenancy.end_all()
        if answer.error is not None:
            raise answer.error

    async def free_bytes(self) -> int | None:
        """Of the device's memory, as the spare sees it; None on the host, or where nothing is said within PROBE_S."""
        with suppress(TimeoutError, WorkerGone, NotTaken):
            async with asyncio.timeout(PROBE_S), self._spare.held() as worker:
                return (await worker.request(Operation.PROBE)).free_bytes
        return None

    async def check_worker(self, worker: WorkerProcess) -> None:
        """For one in which a task failed: unless it computes as it should within PROBE_S, it is ended."""
        try:
            async with asyncio.timeout(PROBE_S):
                answer = await worker.request(Operation.PROBE)
            if answer.error is None:
                return
            why = str(answer.error)
        except (WorkerGone, NotTaken):
            return
        except TimeoutError:
            why = f"no answer within {PROBE_S:g} s"
        log.warning("a worker does not compute after a failure and is ended", extra=fields(why=why))
        await worker.kill()
