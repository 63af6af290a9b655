"""Whether new work is taken: as the journal's condition says, and whoever turns it."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from listener.decisions import Decision
from listener.journal.changes import Change
from listener.journal.states import ConditionName, IntakeState
from listener.orders import intake_is
from listener.steps import Steps

Life = Callable[[], Coroutine[Any, Any, None]]


class IntakeGate:
    """Open, draining or drained. `load` it before anything else."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._turned = asyncio.Event()
        self._turning = asyncio.Lock()
        self.state = IntakeState.OPEN

    async def load(self) -> None:
        known = (await self._steps.journal.conditions()).get(ConditionName.INTAKE)
        self.state = IntakeState(known.value) if known else IntakeState.OPEN

    async def turn(self, origin: IntakeState, to: IntakeState, *changes: Change) -> bool:
        """Write the new state, together with `changes`; False, and nothing is written, where it was turned before."""
        async with self._turning:
            if self.state is not origin:
                return False
            await self._steps.take(None, Decision((intake_is(to), *changes)))
            self.state = to
            self._turned.set()
            return True

    async def live(self, lives: Mapping[IntakeState, Life]) -> None:
        """Until cancelled: live the life of each state, for as long as it lasts."""
        while True:
            self._turned.clear()
            async with asyncio.TaskGroup() as group:
                life = group.create_task(lives[self.state]())
                await self._turned.wait()
                life.cancel()
