"""What commands ask for through the journal: read within a second, done, and answered in the same transaction."""

import logging
from typing import Final

from listener.decisions import Decision
from listener.intake_gate import IntakeGate
from listener.journal.books import Request
from listener.journal.changes import Answer
from listener.journal.records import Task
from listener.journal.states import OPEN, RequestName
from listener.orders import Ruling, on_drain, on_resume, on_skip, refused
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import InvalidId, StateConflict
from shared.ids import parse_task_key
from shared.logs import fields

EVERY_S: Final = 0.5
"""Between two looks whether another process wrote into the journal's file, which reads no row."""

log = logging.getLogger("listener.requests")


class Requests:
    def __init__(self, steps: Steps, gate: IntakeGate, clock: Clock) -> None:
        self._steps = steps
        self._gate = gate
        self._clock = clock

    async def run(self) -> None:
        while True:
            if await self._steps.journal.was_written_beside():
                await self.answer()
            await self._clock.sleep(EVERY_S)

    async def answer(self) -> None:
        """Do what was asked so far, the oldest first."""
        for request in await self._steps.journal.requests_asked():
            while not await self._answer(request):
                pass

    async def _answer(self, request: Request) -> bool:
        """False: what it was decided by has changed meanwhile, and it is decided once more."""
        gate = self._gate.state
        task, ruling = await self._ruling(request)
        answer = Answer(request.id, ruling.state, ruling.answer)
        try:
            if ruling.intake is None:
                await self._steps.take(task, Decision((*ruling.changes, answer)))
            elif not await self._gate.turn(gate, ruling.intake, answer):
                return False
        except StateConflict:
            return False
        told = fields(argument=request.argument, outcome=ruling.state.value, answer=ruling.answer)
        log.info(request.name.value, extra=told)
        return True

    async def _ruling(self, request: Request) -> tuple[Task | None, Ruling]:
        match request.name:
            case RequestName.SKIP:
                return await self._skip(request.argument)
            case RequestName.DRAIN:
                return None, on_drain(self._gate.state, len(await self._steps.journal.tasks_in(OPEN)))
            case RequestName.RESUME:
                return None, on_resume(self._gate.state)

    async def _skip(self, argument: str) -> tuple[Task | None, Ruling]:
        try:
            pair = parse_task_key(argument)
        except InvalidId as error:
            return None, refused(str(error))
        attempts = await self._steps.journal.tasks_of(pair)
        return (attempts[-1] if attempts else None), on_skip(pair, attempts)
