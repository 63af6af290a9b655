"""Whatever the account, compute, the clock and the signatures say in whatever order: the journal's guarantees hold.

One pair, seen by the decisions as the listener would see it, written to the real journal. A change that the journal
refuses fails the test, as does every state it should never be in.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from listener.chain.accounts import ExecutionState
from listener.computation import on_refused_by_compute, on_result, on_status, on_time, stopped
from listener.decisions import Decision, Sighting, may_be_signed, on_account, on_completed_before, on_gone
from listener.forks import is_taken_back, on_taken_back
from listener.journal.at_once import AtOnce
from listener.journal.changes import Change, Insert, Move, Owe, Renumber, Restart, Sign, Sweep, Wait
from listener.journal.journal import Journal
from listener.journal.records import Outbox, Task
from listener.journal.states import (
    ENDED,
    TRANSITIONS,
    UNSIGNED,
    OutboxStatus,
    Owed,
    State,
    SubmissionKind,
    WaitsFor,
)
from listener.journal.tidying import move_finished
from listener.landing import Landed, on_expired, on_landed, on_lost
from listener.orders import handed_back, on_skip
from listener.settlement import on_final_account, on_unpaid
from listener.standing import Standing
from shared.errors import StateConflict
from shared.ids import Attempt, Lamports, Slot, UnixSeconds
from shared.messages import Stage, TaskStatus
from tests.unit.journal_rows import NOW, assignment, result
from tests.unit.test_rules import RULES

ACCOUNT = assignment().account
MARGIN_S = 15.0
_T = TypeVar("_T")

STATES = st.sampled_from([*[ExecutionState.ASSIGNED] * 8, *ExecutionState])
ERRORS = st.sampled_from([None, None, None, "NoticeOver", "OutputUriCount", "BlockhashNotFound"])


class Node(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        in_memory = Path("/dev/shm")
        self.folder = tempfile.mkdtemp(dir=in_memory if in_memory.is_dir() else None)
        self.runner = asyncio.Runner()
        self.journal = Journal(Path(self.folder) / "journal.sqlite", AtOnce())
        self.slot = 1_000
        self.now = float(NOW)
        self.signatures = 0
        self.tasks: list[Task] = []
        self.watched: list[Outbox] = []
        self.completed = False
        self.latest: Task | None = None
        self.highest = 100
        self.ended: dict[int, Task] = {}
        """Rows that have moved to the history, by their numbers."""
        self.booked = self.balance = 0
        """Lamports that signatures moved, by what the chain showed of them at the end."""
        self.with_bytes: set[int] = set()

    def teardown(self) -> None:
        self.journal.close()
        self.runner.close()
        shutil.rmtree(self.folder)

    def wait(self, awaited: Awaitable[_T]) -> _T:
        async def waited() -> _T:
            return await awaited

        return self.runner.run(waited())

    def known(self) -> Task | None:
        return self.latest

    def in_states(self, *states: State) -> list[Task]:
        return [task for task in self.tasks if task.state in states]

    def task(self, number: int) -> Task:
        return next(task for task in self.tasks if task.id == number)

    def owing(self) -> list[Task]:
        return [task for task in self.tasks if task.owed is not Owed.NOTHING]

    def take(self, decision: Decision) -> None:
        """Written as Steps does. A completed pair is not taken again by anything that is written."""
        for change in decision.changes if self.completed else ():
            assert not isinstance(change, Restart | Renumber | Sign), change
            assert not (isinstance(change, Insert) and change.state not in ENDED), change
        before = {task.id: task.state for task in self.tasks}
        self.wait(self.write(decision))
        for task in self.tasks:
            self.check_transition(before.get(task.id), task, len(decision.changes))

    async def write(self, decision: Decision) -> None:
        await self.journal.apply(*decision.changes, at=UnixSeconds(int(self.now)))
        await self.read()

    async def read(self) -> None:
        self.tasks = await self.journal.tasks_of(assignment().key)
        self.watched = await self.journal.watched()
        self.completed = await self.journal.is_completed(assignment().pair_hash)
        self.latest = await self.journal.latest(ACCOUNT)
        self.booked = await self.journal.balance_change()
        rows = await self.journal._rows("SELECT id FROM outbox WHERE raw IS NOT NULL")
        self.with_bytes = {row["id"] for row in rows}
        for task in (*self.tasks, *self.ended.values()):
            assert await self.journal.knows(ACCOUNT, task.attempt)
        self.highest = max([self.highest, *(task.attempt for task in self.tasks)])

    def check_transition(self, origin: State | None, task: Task, steps: int) -> None:
        """Two changes of one task may be written together: an attempt that is over and back, judged once more."""
        if origin in (None, task.state) or (origin, task.state) in TRANSITIONS:
            return
        between = {to for start, to in TRANSITIONS if start == origin}
        assert steps > 1 and any((middle, task.state) in TRANSITIONS for middle in between), (origin, task)

    # ---- the chain ----

    @rule(later=st.integers(1, 40))
    def slots_pass(self, later: int) -> None:
        self.slot += later

    @rule(later_s=st.sampled_from([1, 20, 300]))
    def time_passes(self, later_s: int) -> None:
        self.now += later_s
        for task in self.in_states(*UNSIGNED):
            self.take(on_time(task, self.now, MARGIN_S))

    def sighting(
        self, state: ExecutionState, number: int, content: int, age: int, reward: int = 1_000_000
    ) -> Sighting:
        seen = assignment(
            attempt=number,
            content_hash=bytes([content]),
            reward=reward,
            verified_slot=Slot(self.slot - age),
            deadline=UnixSeconds(int(self.now) + 600),
            refund_at=UnixSeconds(int(self.now) + 30 if state is ExecutionState.CANCELLED else 0),
        )
        return Sighting(seen, state)

    def look(self, seen: Sighting) -> None:
        """As the observer does. What shows a lower attempt is taken for final."""
        known, attempt = self.known(), seen.assignment.attempt
        if self.wait(self.journal.is_over(ACCOUNT, attempt)):
            return
        if known is not None and is_taken_back(seen, known):
            older = next((task for task in self.tasks if task.attempt == attempt), None)
            self.take(on_taken_back(seen, known, older, self.completed, RULES, Standing(self.now)))
        else:
            self.take(on_account(seen, known, self.completed, RULES, Standing(self.now)))

    @rule(
        state=STATES,
        above=st.sampled_from([0, 1, 1, -1]),
        content=st.sampled_from([0, 0, 1]),
        age=st.sampled_from([0, 0, 5]),
        reward=st.sampled_from([1_000_000, 1_000_000, 1]),
    )
    def an_account_is_seen(self, state: ExecutionState, above: int, content: int, age: int, reward: int) -> None:
        """An attempt that rises is a slot that nobody has seen; a lower one is a fork's."""
        known = self.known()
        number = self.highest + above if known is None or above > 0 else known.attempt + above
        self.look(self.sighting(state, number, content, age, reward))

    @precondition(lambda self: self.known() is not None)
    @rule(state=STATES)
    def the_known_attempt_is_seen_in_a_newer_slot(self, state: ExecutionState) -> None:
        known = self.known()
        assert known is not None
        self.slot += 1
        self.look(self.sighting(state, known.attempt, known.content_hash[0], 0))

    @rule(age=st.sampled_from([0, 5]))
    def the_account_is_gone(self, age: int) -> None:
        self.take(on_gone(self.known(), Slot(self.slot - age)))

    # ---- compute ----

    @precondition(lambda self: self.in_states(State.ACCEPTED))
    @rule(answer=st.sampled_from(["taken", "done", "done", "failed", "refused"]))
    def compute_answers_a_post(self, answer: str) -> None:
        task = self.in_states(State.ACCEPTED)[0]
        match answer:
            case "taken":
                self.take(Decision((Move(task.id, State.ACCEPTED, State.COMPUTING),)))
            case "refused":
                self.take(on_refused_by_compute(task, "input-forbidden", "not yours"))
            case _:
                self.take(on_status(task, self.status(task, answer)))

    def status(self, task: Task, answer: str, attempt: int | None = None) -> TaskStatus:
        stages = {"done": Stage.DONE, "failed": Stage.FAILED, "late": Stage.FAILED}
        has_ended = answer in stages
        return TaskStatus(
            execution_id=task.execution_id,
            task_id=task.task_id,
            attempt=Attempt(task.attempt if attempt is None else attempt),
            requester=task.requester,
            stage=stages.get(answer, Stage.RUNNING),
            reason="DeadlinePassed" if answer == "late" else None,
            result=result(task, success=answer == "done") if has_ended else None,
        )

    @precondition(lambda self: self.in_states(State.COMPUTING, State.CANCELLING))
    @rule(answer=st.sampled_from(["running", "done", "failed", "late", "unknown", "another attempt"]))
    def compute_answers_a_poll(self, answer: str) -> None:
        task = self.in_states(State.COMPUTING, State.CANCELLING)[0]
        if answer == "unknown":
            self.take(on_status(task, None))
        else:
            other = task.attempt - 1 if answer == "another attempt" else None
            self.take(on_status(task, self.status(task, answer, other)))

    @precondition(lambda self: self.in_states(State.CANCELLING))
    @rule(answer=st.sampled_from(["stopped", "done", "failed"]))
    def compute_answers_a_delete(self, answer: str) -> None:
        task = self.in_states(State.CANCELLING)[0]
        if answer == "stopped":
            self.take(stopped(task))
        else:
            self.take(on_result(task, result(task, success=answer == "done"), None))

    # ---- the operator ----

    @precondition(lambda self: self.tasks)
    @rule()
    def the_operator_skips(self) -> None:
        ruling = on_skip(assignment().key, self.tasks)
        skipped = self.known() if ruling.changes else None
        self.take(Decision(ruling.changes))
        if skipped is not None:
            assert self.task(skipped.id).owed is Owed.STOP

    @precondition(lambda self: self.in_states(State.ACCEPTED, State.COMPUTING))
    @rule()
    def a_drain_hands_back(self) -> None:
        self.take(handed_back(self.in_states(State.ACCEPTED, State.COMPUTING)[0], "draining"))

    # ---- submission and signatures ----

    @precondition(lambda self: self.in_states(State.COMPUTED))
    @rule(state=STATES)
    def what_is_computed_is_submitted(self, state: ExecutionState) -> None:
        self.submit(self.in_states(State.COMPUTED)[0], state)

    def submit(self, task: Task, state: ExecutionState) -> None:
        seen = self.sighting(state, task.attempt, task.content_hash[0], 0)
        self.look(seen)
        task = self.task(task.id)
        if task.state is not State.COMPUTED or not may_be_signed(seen, task, names_attempt=True):
            return
        if self.completed:
            self.take(on_completed_before(task))
            return
        late = on_time(task, self.now, MARGIN_S)
        if late.changes:
            self.take(late)
            return
        self.signatures += 1
        text = f"signature-{self.signatures}"
        fee = Lamports(5_000)
        self.take(Decision((Sign(task.id, task.submission, task.attempt, text, b"raw", self.slot + 150, fee),)))

    def task_of(self, row: Outbox) -> Task | None:
        return None if row.task is None else self.task(row.task)

    def signature(self, which: int) -> Outbox:
        return self.watched[which % len(self.watched)]

    @precondition(lambda self: self.watched)
    @rule(which=st.integers(0, 5), is_finalized=st.booleans(), error=ERRORS, ours=st.booleans())
    def a_signature_lands(self, which: int, is_finalized: bool, error: str | None, ours: bool) -> None:
        row = self.signature(which)
        landed = Landed(Slot(self.slot), is_finalized, error, is_of_program=ours)
        task = self.task_of(row)
        if is_finalized:
            self.balance -= row.fee
        if is_finalized and error is None:
            reward = task.reward if task is not None and row.kind is SubmissionKind.COMPLETED else 0
            self.balance += reward - row.lamports
        self.take(on_landed(row, task, landed))

    @precondition(lambda self: self.watched)
    @rule(which=st.integers(0, 5))
    def a_signature_is_unknown_and_expires(self, which: int) -> None:
        row = self.signature(which)
        if row.status is not OutboxStatus.SIGNED:
            self.take(on_lost(row, self.task_of(row)))
            row = next(one for one in self.watched if one.id == row.id)
        self.take(on_expired(row, self.task_of(row)))

    @precondition(lambda self: [row for row in self.watched if row.status is not OutboxStatus.SIGNED])
    @rule()
    def a_fork_takes_a_signature_back(self) -> None:
        row = next(row for row in self.watched if row.status is not OutboxStatus.SIGNED)
        self.take(on_lost(row, self.task_of(row)))

    @rule()
    def what_is_too_much_is_swept(self) -> None:
        self.signatures += 1
        sweep = Sweep(f"signature-{self.signatures}", b"raw", self.slot + 150, Lamports(5_000), Lamports(7_000))
        may = not self.sweeps() and not [task for task in self.tasks if task.waits_for is WaitsFor.FUNDS]
        if may:
            self.take(Decision((sweep,)))
        else:
            self.is_refused(sweep)

    def is_refused(self, change: Change) -> None:
        with pytest.raises(StateConflict):
            self.wait(self.journal.apply(change))

    def sweeps(self) -> list[Outbox]:
        return [row for row in self.watched if row.task is None]

    # ---- all of them ----

    @precondition(lambda self: not self.completed)
    @rule(steps=st.integers(1, 4))
    def the_work_goes_well(self, steps: int) -> None:
        """Else no walk at random would come far. The end is left to the other rules: after it not much happens."""
        for _ in range(steps):
            self.goes_well()

    def goes_well(self) -> None:
        known = self.known()
        if known is None or known.state in ENDED:
            content = known.content_hash[0] if known else 0
            self.look(self.sighting(ExecutionState.ASSIGNED, self.highest + 1, content, 0))
        elif known.state is State.COMPUTED:
            self.submit(known, ExecutionState.ASSIGNED)
        elif known.state in UNSIGNED:
            self.take(on_status(known, self.status(known, "done")))
        else:
            row = next(row for row in self.watched if not row.superseded and row.task is not None)
            self.take(on_landed(row, known, Landed(Slot(self.slot), False)))

    # ---- settlement ----

    @precondition(lambda self: self.owing())
    @rule(state=st.sampled_from([None, None, ExecutionState.ASSIGNED, *ExecutionState]))
    def what_is_owed_is_settled(self, state: ExecutionState | None) -> None:
        task = self.owing()[0]
        if task.owed is Owed.STOP:
            self.take(Decision((Owe(task.id, Owed.STOP, Owed.UNPAID),)))
            return
        if task.owed is Owed.UNPAID and task.state not in ENDED:
            return
        if task.owed is Owed.UNPAID and any(row.task == task.id for row in self.watched):
            return
        if task.owed is Owed.UNPAID and task.state in (State.CANCELLED, State.MISSED):
            seen = None if state is None else self.sighting(state, task.attempt, task.content_hash[0], 0)
            decision = on_final_account(task, seen, self.now, self.wait(self.journal.signatures_of(task.id)))
            if decision is None or decision.changes:
                self.take(decision or Decision())
                return
        self.take(
            on_unpaid(task) if task.owed is Owed.UNPAID else Decision((Owe(task.id, Owed.PAID, Owed.NOTHING),))
        )

    # ---- the journal itself ----

    @rule(later_s=st.sampled_from([0, 700, 2_000]))
    def the_journal_is_tidied(self, later_s: int) -> None:
        self.time_passes(later_s)
        before = {task.id: task for task in self.tasks}
        watched = {row.task for row in self.watched}
        self.wait(self.journal.tidy(partial(move_finished, now=UnixSeconds(int(self.now)))))
        self.wait(self.read())
        for number in before.keys() - {task.id for task in self.tasks}:
            gone = self.ended[number] = before[number]
            assert gone.state in ENDED and gone.owed is Owed.NOTHING and number not in watched
            assert gone.deadline + 60 < self.now

    @rule()
    def the_listener_is_killed_and_starts_again(self) -> None:
        before = self.tasks, self.watched, self.latest
        self.journal.close()
        self.journal = Journal(Path(self.folder) / "journal.sqlite", AtOnce())
        self.wait(self.read())
        assert (self.tasks, self.watched, self.latest) == before

    @precondition(lambda self: self.in_states(*UNSIGNED))
    @rule(why=st.sampled_from([None, *WaitsFor]))
    def a_task_waits(self, why: WaitsFor | None) -> None:
        task = self.in_states(*UNSIGNED)[0]
        self.take(Decision((Wait(task.id, task.state, why),)))
        assert self.task(task.id).waits_for is why

    @precondition(lambda self: self.in_states(State.ACCEPTED))
    @rule()
    def two_would_move_a_task_at_the_same_moment(self) -> None:
        task = self.in_states(State.ACCEPTED)[0]

        async def both() -> list[object]:
            moves = Move(task.id, State.ACCEPTED, State.COMPUTING), Move(task.id, State.ACCEPTED, State.CANCELLING)
            at = UnixSeconds(int(self.now))
            return await asyncio.gather(
                *(self.journal.apply(move, at=at) for move in moves), return_exceptions=True
            )

        outcomes = self.wait(both())
        assert sorted(type(one).__name__ for one in outcomes) == ["NoneType", "StateConflict"]
        self.wait(self.read())

    # ---- what always holds ----

    @invariant()
    def never_two_signatures_that_may_land_and_count(self) -> None:
        live = [row.task for row in self.watched if not row.superseded]  # None stands for a sweep
        assert len(live) == len(set(live))

    @invariant()
    def a_live_signature_belongs_to_a_task_that_waits_for_it(self) -> None:
        states = {task.id: task.state for task in self.tasks}
        live = {row.task for row in self.watched if not row.superseded} - {None}
        assert live == {task for task, state in states.items() if state in (State.SUBMITTING, State.CONFIRMED)}

    @invariant()
    def only_one_attempt_is_open(self) -> None:
        open_rows = [task for task in self.tasks if task.state not in ENDED]
        assert len(open_rows) <= 1
        assert not open_rows or open_rows[0] == self.known()

    @invariant()
    def what_is_computed_has_a_result_and_an_end_to_come(self) -> None:
        for task in self.in_states(State.COMPUTED, State.SUBMITTING, State.CONFIRMED):
            assert task.result is not None and task.ends_as is not None
            assert (task.ends_as is State.PAID) == task.result.success

    @invariant()
    def every_paid_task_has_its_pair_in_the_list_of_completed_ones(self) -> None:
        assert self.completed or not self.in_states(State.PAID)

    @invariant()
    def no_row_is_here_and_in_the_history(self) -> None:
        assert not {task.id for task in self.tasks} & self.ended.keys()

    @invariant()
    def what_is_over_is_never_taken_up_again(self) -> None:
        over = {task.attempt for task in self.ended.values()}
        assert not over & {task.attempt for task in self.tasks}

    @invariant()
    def the_ledger_is_what_the_signatures_moved(self) -> None:
        assert self.booked == self.balance

    @invariant()
    def only_what_may_still_land_keeps_its_bytes(self) -> None:
        assert self.with_bytes == {row.id for row in self.watched}

    @invariant()
    def a_task_has_ended_at_a_moment_or_may_wait_for_something(self) -> None:
        for task in self.tasks:
            assert (task.ended_at is not None) == (task.state in ENDED)
            assert task.waits_for is None or task.state in UNSIGNED


TestNode = Node.TestCase
TestNode.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
