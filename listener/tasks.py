"""One task's way through its states: POST, long poll, DELETE, and the hand-over to the submission.

Each open task has one asyncio task, which reads the row, does what its state asks for, and reads it again. Nothing is
kept between two steps but the journal, so a step may be interrupted anywhere: by another change, or by a crash.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from listener.alarms import Alarm, sound
from listener.chain_clock import ChainClock
from listener.computation import on_refused_by_compute, on_result, on_status, on_time, stopped
from listener.compute_client import Accepted, ComputeClient, Finished, Stopped, Storing
from listener.decisions import Decision
from listener.journal.changes import Move, Wait
from listener.journal.records import Task, Waiting
from listener.journal.states import UNSIGNED, State, WaitsFor
from listener.standing import unpaid
from listener.steps import Steps
from listener.turns import in_turn
from shared.backoff import Backoff
from shared.errors import (
    ChainError,
    ComputeBusy,
    ComputeConflict,
    ComputeError,
    ComputeRefused,
    ComputeUnavailable,
    Disputed,
    StateConflict,
)
from shared.ids import UnixSeconds, day_of
from shared.logs import fields
from shared.messages import Stage, TaskRequest, TaskStatus

AT_DOOR: Final = 16
"""Tasks posted at once; the others wait in the journal."""
LEAST_PAUSE_S: Final = 0.02
LONG_POLL_S: Final = 30
RETRY: Final = Backoff(base_s=0.2, cap_s=10.0)
DISPUTED_S: Final = 5.0
"""Between two looks at what endpoints disagree on."""

log = logging.getLogger("listener.tasks")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a step needs besides the task."""

    steps: Steps
    compute: ComputeClient
    chain_clock: ChainClock
    landing_margin_s: float
    max_unpaid_a_day: int
    """Of a requester; beyond it its tasks come last."""
    submit: Callable[[Task], Awaitable[float]]
    """Looks at the account of a computed task, then signs and stores, or ends it. Returns seconds to wait."""
    look_again: Callable[[str], Awaitable[None]]
    """Reads an account anew and applies what it shows."""


class TaskRunner:
    """Drives every task that is not signed yet. `changed` tells it of rows that others wrote.

    Those that compute was not given stand in a queue: some at a time are posted, in their turn. While compute has no
    place free none is, until it said to ask again or one of ours has left it.
    """

    def __init__(self, surroundings: Surroundings, rng: random.Random) -> None:
        self._surroundings = surroundings
        self._rng = rng
        self._wake = asyncio.Event()
        self._driven: dict[int, asyncio.Event] = {}
        self._states = UNSIGNED
        self._busy_until = 0.0

    def drive_only(self, states: frozenset[State]) -> None:
        """From now on; what is in another state stays as it is."""
        self._states = states
        self._wake.set()
        for task in list(self._driven):
            self.changed(task)

    def changed(self, task: int | None = None) -> None:
        """A row is new, or was changed: what runs for it looks at it again."""
        if task in self._driven:
            self._driven[task].set()
        else:
            self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                due, again_s = await self._due()
                for task in dict.fromkeys(due):
                    self._driven[task] = asyncio.Event()
                    group.create_task(self._drive(task))
                with suppress(TimeoutError):
                    async with asyncio.timeout(again_s):
                        await self._wake.wait()

    async def _due(self) -> tuple[list[int], float | None]:
        """What is to be driven now and is not, and the seconds until more of it may be without a change of a row."""
        journal, now = self._surroundings.steps.journal, self._now()
        at_work, accepted = await asyncio.gather(
            journal.ids_in(self._states - {State.ACCEPTED}), journal.accepted()
        )
        due = [task for task in at_work if task not in self._driven]
        if State.ACCEPTED not in self._states:
            return due, None
        waiting = [task for task in accepted if task.id not in self._driven]
        late = [task.id for task in waiting if self._left_s(task, now) <= 0.0]
        waiting = [task for task in waiting if self._left_s(task, now) > 0.0]
        busy_s = self._busy_until - asyncio.get_running_loop().time()
        places = 0 if busy_s > 0 else AT_DOOR - (len(accepted) - len(waiting) - len(late))
        turns = await self._in_turn(waiting, now) if len(waiting) > places > 0 else waiting
        posted = [task.id for task in turns[: max(0, places)]]
        pauses = [self._left_s(task, now) for task in turns[max(0, places) :]]
        pauses += [busy_s] if busy_s > 0 and waiting else []
        return due + late + posted, max(LEAST_PAUSE_S, min(pauses)) if pauses else None

    async def _in_turn(self, waiting: list[Waiting], now: float) -> list[Waiting]:
        days = await self._surroundings.steps.journal.requester_days(day_of(now))
        most = self._surroundings.max_unpaid_a_day
        return in_turn(waiting, now, {who for who, day in days.items() if unpaid(day) >= most})

    def _now(self) -> float:
        """Before the chain's clock was ever read nothing is late."""
        return float(self._surroundings.chain_clock.known() or 0)

    def _left_s(self, task: Waiting, now: float) -> float:
        return task.end - now - self._surroundings.landing_margin_s

    def _busy(self, retry_after_s: float) -> None:
        self._busy_until = asyncio.get_running_loop().time() + retry_after_s

    def _moved(self, origin: State) -> None:
        """A driven task has left this state: the next one may be posted."""
        if origin is State.COMPUTING:
            self._busy_until = 0.0
        self._wake.set()

    async def _drive(self, task: int) -> None:
        try:
            drive = Drive(self._surroundings, task, self._driven[task], self._rng, self._busy, self._moved)
            while await drive.go_on(self._states):
                pass
        finally:
            del self._driven[task]
            self._wake.set()


class Drive:
    """The steps of one task, until it is signed or over, or compute has no place for it."""

    def __init__(
        self,
        surroundings: Surroundings,
        task: int,
        changed: asyncio.Event,
        rng: random.Random,
        busy: Callable[[float], None],
        moved: Callable[[State], None],
    ) -> None:
        """`busy` is told for how many seconds compute takes nothing, `moved` each state that the task leaves."""
        self._with = surroundings
        self._task = task
        self._changed = changed
        self._rng = rng
        self._busy = busy
        self._moved = moved
        self._gives_way = False
        self._state: State | None = None
        self._failures = 0
        self._stage: Stage | None = None

    async def go_on(self, states: Collection[State]) -> bool:
        """Do what the state asks for next, where it is one of `states`. False: there is nothing to be done."""
        self._changed.clear()
        task = await self._with.steps.journal.task(self._task)
        if self._state is not None and self._state is not task.state:
            self._moved(self._state)
        self._state = task.state
        if task.state not in states:
            return False
        pause_s = await self._until_changed(self._attempt(task))
        if pause_s:
            await self._until_changed(asyncio.sleep(pause_s, 0.0))
        return not self._gives_way

    async def _until_changed(self, step: Awaitable[float]) -> float:
        """What the step returns, or 0 as soon as another change of the row makes it pointless."""
        work, change = asyncio.ensure_future(step), asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((work, change), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            change.cancel()
            await asyncio.wait((work, change))  # and not `await work`: who cancels us meanwhile must be heard
        return 0.0 if work.cancelled() else work.result()

    async def _attempt(self, task: Task) -> float:
        """Do one step. Returns the seconds to wait before the next."""
        try:
            pause_s = await self._step(task)
        except StateConflict:
            return 0.0
        except ComputeBusy as busy:
            if task.state is not State.ACCEPTED:
                return busy.retry_after_s
            self._busy(busy.retry_after_s)
            self._gives_way = True
            return 0.0
        except Disputed as dispute:
            return await self._wait_for_agreement(task, dispute)
        except (ComputeError, ChainError) as error:
            self._failures += 1
            log.warning("waits", extra=fields(**task.log_fields, error=str(error)))
            return RETRY.delay_s(self._failures - 1, self._rng)
        self._failures = 0
        return pause_s

    async def _wait_for_agreement(self, task: Task, dispute: Disputed) -> float:
        """Nothing is signed, dropped or given up until endpoints agree, or the deadline has passed."""
        if task.waits_for is not WaitsFor.AGREEMENT:
            sound(Alarm.DISPUTED, **task.log_fields, error=str(dispute))
            await self._with.steps.take(task, Decision((Wait(task.id, task.state, WaitsFor.AGREEMENT),)))
        return DISPUTED_S

    async def _step(self, task: Task) -> float:
        now = await self._with.chain_clock.now()
        if await self._with.steps.take(task, on_time(task, now, self._with.landing_margin_s)):
            return 0.0
        wait_s = max(1, min(LONG_POLL_S, int(task.end - now - self._with.landing_margin_s) + 1))
        match task.state:
            case State.ACCEPTED:
                return await self._post(task, now)
            case State.COMPUTING:
                return await self._poll(task, wait_s)
            case State.CANCELLING:
                return await self._cancel(task, wait_s)
            case _:
                return await self._with.submit(task)

    async def _post(self, task: Task, now: float) -> float:
        try:
            answer = await self._with.compute.post(self._request(task, now))
        except ComputeRefused as refused:
            reason, detail = refused.problem.get("type"), refused.problem.get("detail")
            await self._with.steps.take(task, on_refused_by_compute(task, str(reason), str(detail)))
            return 0.0
        except ComputeConflict as conflict:
            return await self._conflict(task, conflict)
        if isinstance(answer, Accepted) or answer.result is None:
            await self._with.steps.take(task, Decision((Move(task.id, task.state, State.COMPUTING),)))
        else:
            await self._with.steps.take(task, on_status(task, answer))
        return 0.0

    async def _conflict(self, task: Task, conflict: ComputeConflict) -> float:
        """Compute knows a higher attempt (the account tells whether it is right), or other content."""
        if conflict.problem.get("attempt") == task.attempt:
            refused = on_refused_by_compute(
                task, "ContentDiffers", str(conflict), alarm=Alarm.COMPUTE_CONTENT_DIFFERS
            )
            await self._with.steps.take(task, refused)
            return 0.0
        await self._with.look_again(task.account)
        raise ComputeUnavailable(f"compute is at another attempt: {conflict}") from conflict

    def _request(self, task: Task, now: float) -> TaskRequest:
        return TaskRequest(
            task_id=task.task_id,
            model_id=task.model_id,
            execution_id=task.execution_id,
            input_uris=list(task.input_uris),
            output_count=task.output_count,
            deadline=task.deadline,
            requester=task.requester,
            compute_units=task.compute_units,
            attempt=task.attempt,
            chain_time=UnixSeconds(int(now)),
            landing_margin=self._with.landing_margin_s,
        )

    async def _poll(self, task: Task, wait_s: int) -> float:
        status = await self._with.compute.status(task.key, wait_s if self._stage else 0, self._stage)
        self._note_stage(task, status)
        await self._with.steps.take(task, on_status(task, status))
        return 0.0

    async def _cancel(self, task: Task, wait_s: int) -> float:
        answer = await self._with.compute.stop(task.key, task.attempt, force=False)
        match answer:
            case Stopped():
                await self._with.steps.take(task, stopped(task))
            case Finished(result):
                await self._with.steps.take(task, on_result(task, result, None))
            case Storing():
                status = await self._with.compute.status(task.key, wait_s, Stage.STORING)
                await self._with.steps.take(task, on_status(task, status))
        return 0.0

    def _note_stage(self, task: Task, status: TaskStatus | None) -> None:
        if status is not None and status.stage is not self._stage:
            self._stage = status.stage
            log.info(status.stage.value, extra=fields(**task.log_fields))
