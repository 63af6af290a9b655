"""What the operator's commands say of a journal, beside a listener and without one."""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import cli.commands.asking as asking
from cli.commands.plain import columns, plain, span
from cli.main import main
from listener.journal.books import Request
from listener.journal.changes import Answer, Book, Insert, Move, Observe, SetCondition, Spend, Wait
from listener.journal.journal import Journal
from listener.journal.opening import is_held, lock
from listener.journal.records import Assignment, Cursor, Gap
from listener.journal.states import (
    ConditionName,
    LedgerKind,
    OutboxStatus,
    Owed,
    RequestState,
    State,
    WaitsFor,
)
from shared.errors import JournalLocked
from shared.ids import ExecutionId, Slot, TaskId, UnixSeconds, day_of
from tests.unit.journal_rows import REQUESTER, assignment, result, signature


def taken(number: int, **changed: object) -> Assignment:
    values = {"deadline": UnixSeconds(int(time.time()) + 600), "execution_id": ExecutionId(f"execution-{number}")}
    return assignment(number, 100 + number, **(values | changed))


async def filled(journal: Journal) -> None:
    """One task computing, one waiting for funds, one submitting, one paid, one failed with a hostile message."""
    at = UnixSeconds(int(time.time()))

    async def task(number: int, *steps: Callable[[int], Any]) -> None:
        await journal.apply(Insert(taken(number), State.ACCEPTED), at=at)
        row = await journal.latest(f"account-{number}")
        assert row is not None
        for step in steps:
            await journal.apply(step(row.id), at=at)

    def computed(number: int) -> Callable[[int], Move]:
        done = result(taken(number))
        return lambda id: Move(id, State.ACCEPTED, State.COMPUTED, result=done, ends_as=State.PAID)

    await task(1, lambda id: Move(id, State.ACCEPTED, State.COMPUTING))
    await task(2, computed(2), lambda id: Wait(id, State.COMPUTED, WaitsFor.FUNDS))
    await task(3, computed(3))
    await task(4, computed(4))
    for number in (3, 4):
        row = await journal.latest(f"account-{number}")
        assert row is not None
        await journal.apply(signature(row, f"signature-{number}"), at=at)
    paid = await journal.latest("account-4")
    assert paid is not None
    await journal.apply(
        Observe(2, OutboxStatus.SIGNED, OutboxStatus.FINALIZED, Slot(777)),
        Move(paid.id, State.SUBMITTING, State.PAID, owed=Owed.PAID),
        Book(LedgerKind.REWARD, 1_000_000, "signature-4", paid),
        Book(LedgerKind.FEE, -5_000, "signature-4", paid),
        at=at,
    )
    hostile = result(taken(5), success=False).model_copy(update={"error_message": "red \x1b[31m\nline"})
    await task(5, lambda id: Move(id, State.ACCEPTED, State.COMPUTED, "GraphInvalid", hostile, State.FAILED))
    await journal.apply(
        Insert(taken(6), State.REFUSED, "RewardTooLow"),
        Cursor("cursor", Slot(4_000)),
        Gap(Slot(10), Slot(20)),
        Spend(day_of(at), "failures", 5_000),
        SetCondition(ConditionName.HALTED, "no endpoint lists accounts"),
        at=at,
    )


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    asyncio.run(filled(journal))
    monkeypatch.setenv("SPLITUP_JOURNAL", str(path))
    yield path
    journal.close()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["splitup-node", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


def line(said: str, first: str) -> str:
    return next(text for text in said.splitlines() if text.strip().startswith(first))


def test_status_says_how_the_node_stands(path: Path, typed: Callable[..., tuple[int, str]]) -> None:
    status, said = typed("status")
    assert status == 0
    assert "runs" in line(said, "listener") and str(path) in line(said, "listener")
    assert line(said, "intake").endswith("open, halted: no endpoint lists accounts")
    assert line(said, "open").endswith("computing 1, computed 2, submitting 1")
    assert "execution-1/task-1 computing, taken" in line(said, "oldest")
    assert line(said, "ended").endswith("paid 1, refused 1")
    assert line(said, "in flight").endswith("1 task_completed signed, fees 5,000")
    assert line(said, "read").endswith("to slot 4000, without slots 10 to 20")
    assert "4,995,000 of 5,000,000" in line(said, "budget failures ")
    assert "blocked_funds" in line(said, "execution-2/task-2")
    assert line(said, "rewards").split() == ["rewards", "1,000,000", "1,000,000", "1,000,000"]
    assert line(said, "net").split() == ["net", "995,000", "995,000", "995,000"]
    assert "RewardTooLow" in said


def test_status_is_told_to_programs_as_json(path: Path, typed: Callable[..., tuple[int, str]]) -> None:
    _, said = typed("status", "--json")
    told = json.loads(said)
    assert told["open"] == {"computing": 1, "computed": 2, "submitting": 1}
    assert told["periods"][0]["rewards"] == 1_000_000 and told["gaps"] == [{"from_slot": 10, "to_slot": 20}]
    assert told["listener_runs"] is True and told["waiting"][0]["task"] == "execution-2/task-2"


def test_tasks_are_listed_the_newest_first_and_by_state_and_requester(
    path: Path, typed: Callable[..., tuple[int, str]]
) -> None:
    def listed(*words: str) -> list[str]:
        _, said = typed("tasks", *words)
        return [text.split()[0] for text in said.splitlines()[1:]]

    everything = [f"execution-{number}/task-{number}" for number in (6, 5, 4, 3, 2, 1)]
    assert listed() == everything
    assert listed("--limit", "2") == everything[:2]
    assert listed("--state", "paid") == ["execution-4/task-4"]
    assert listed("--state", "open") == [everything[1], *everything[3:]]
    assert listed("--requester", REQUESTER) == everything
    assert typed("tasks", "--requester", "9" * 40) == (0, "none\n")
    assert "left" in typed("tasks", "--state", "open")[1] and "9m" in typed("tasks", "--state", "open")[1]


def test_a_task_is_told_with_all_that_the_journal_knows(path: Path, typed: Callable[..., tuple[int, str]]) -> None:
    status, said = typed("task", "execution-4/task-4")
    assert status == 0 and said.startswith("execution-4/task-4\n")
    assert "104, at account account-4" in said and "success after 12 ms" in said
    for word in (
        "signature-4",
        "finalized",
        "slot 777",
        "fee 5,000",
        "1,000,000",
        "-5,000",
        "compute is still to be",
    ):
        assert word in said, word


def test_what_strangers_wrote_reaches_no_terminal_raw(path: Path, typed: Callable[..., tuple[int, str]]) -> None:
    _, said = typed("task", "task-5")
    assert "\x1b" not in said and "failure: red \\x1b[31m\\nline" in said


def test_finished_tasks_are_found_in_the_history_too(path: Path, typed: Callable[..., tuple[int, str]]) -> None:
    db = sqlite3.connect(path)
    db.execute(
        """INSERT INTO history VALUES ('account-9', 7, 'old-execution', 'old-task', ?, 'model', 3, 42, 'paid', NULL,
           'signature-old', 5000, 1, 2)""",
        (REQUESTER,),
    )
    db.commit()
    db.close()
    _, said = typed("task", "old-exec")
    assert "in the history" in said and "signature-old" in said
    assert typed("tasks")[1].splitlines()[-1].startswith("old-execution/old-task")
    assert line(typed("status")[1], "ended").endswith("paid 2, refused 1")


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("task-1", 0, "execution-1/task-1"),
        ("execution-1", 0, "execution-1/task-1"),
        ("execution-1/", 0, "execution-1/task-1"),
        ("exec/task-3", 0, "execution-3/task-3"),
        ("execution", 1, "may be any of: execution-1/task-1, execution-2/task-2"),
        ("nothing", 1, "holds no task 'nothing'"),
        ("\x1b[31m", 1, "holds no task '\\\\x1b[31m'"),
        ("%", 1, "holds no task"),
        ("", 1, "may be any of"),
    ],
)
def test_a_task_is_named_by_a_beginning_that_only_it_has(
    path: Path, typed: Callable[..., tuple[int, str]], text: str, status: int, said: str
) -> None:
    found, told = typed("task", text)
    assert found == status and said in told


def test_a_name_in_full_is_meant_also_where_longer_ones_begin_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Callable[..., tuple[int, str]]
) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for number, task in enumerate(("task-1", "task-10")):
        asyncio.run(journal.apply(Insert(taken(number, task_id=TaskId(task)), State.ACCEPTED)))
    monkeypatch.setenv("SPLITUP_JOURNAL", str(journal.path))
    assert typed("task", "task-1")[1].startswith("execution-0/task-1\n")
    journal.close()


def answering(path: Path, answer: Answer) -> Callable[..., Coroutine[Any, Any, Request]]:
    """Stands where the wait is: the listener answers meanwhile."""

    async def answered(journal: Any, number: int, _: Path) -> Request:
        db = sqlite3.connect(path)
        db.execute("UPDATE requests SET state = ?, answer = ?", (answer.state.value, answer.answer))
        db.commit()
        db.close()
        return await journal.request(number)

    return answered


@pytest.mark.parametrize(("state", "status"), [(RequestState.DONE, 0), (RequestState.REFUSED, 1)])
def test_the_listeners_answer_is_told_and_a_refusal_is_an_error(
    path: Path,
    typed: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    state: RequestState,
    status: int,
) -> None:
    monkeypatch.setattr(asking, "answered", answering(path, Answer(1, state, "so \x1b it is")))
    assert typed("resume") == (status, f"{state}: so \\x1b it is\n")


def test_a_listener_that_does_not_answer_in_time_will_do_it_later(
    path: Path, typed: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.2)
    status, said = typed("drain")
    assert status == 0 and "it is busy, and will do it" in said
    assert "1 of commands wait" in typed("status")[1]


def test_without_a_listener_what_is_asked_is_left_for_its_next_start(
    tmp_path: Path, typed: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    asyncio.run(filled(journal))
    journal.close()
    monkeypatch.setenv("SPLITUP_JOURNAL", str(journal.path))
    begun = time.monotonic()
    status, said = typed("skip", "task-1")
    assert (status, said.splitlines()) == (
        0,
        ["execution-1/task-1", "asked; the listener does not run: it will do it at its next start"],
    )
    assert time.monotonic() - begun < asking.PATIENCE_S, "there is nobody to wait for"
    assert "does not run" in line(typed("status")[1], "listener")


def test_where_there_is_no_journal_each_command_says_so(
    tmp_path: Path, typed: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITUP_JOURNAL", str(tmp_path / "none.sqlite"))
    for words in (["status"], ["tasks"], ["task", "x"], ["skip", "x"], ["drain"], ["resume"]):
        status, said = typed(*words)
        assert status == 1 and "there is no journal" in said, said
    assert list(tmp_path.iterdir()) == []


def test_asking_whether_a_listener_runs_does_not_keep_one_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    assert not is_held(path)
    journal = Journal(path)
    assert is_held(path)
    with pytest.raises(JournalLocked):
        lock(path)
    journal.close()
    assert not is_held(path)
    Journal(path).close()


def test_columns_are_aligned_and_spans_short() -> None:
    assert columns([("a", 1), ("long", 10)], right=[1]) == "a      1\nlong  10"
    assert columns([]) == ""
    assert plain("é\u202e\x00") == "é\\u202e\\x00"
    assert [span(seconds) for seconds in (-1, 5, 65, 3_700, 90_000)] == ["past", "5s", "1m05s", "1h01m", "1d01h"]
