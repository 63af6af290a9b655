"""`splitup-node tasks`: this node's tasks."""

import argparse
import time
from collections.abc import Iterator

from cli.commands.asking import opened
from cli.commands.plain import columns, lamports, moment, span
from cli.commands.running import run
from cli.commands.standing import WHY_IT_WAITS
from listener.journal.books import Finished
from listener.journal.records import Task
from listener.journal.states import ENDED, OPEN, State
from shared.ids import Requester, parse_requester

DEFAULT_LIMIT = 50
_STATES = {"all": frozenset(State), "open": OPEN, "ended": ENDED} | {state.value: {state} for state in State}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="The tasks that the journal holds, the newest assignment first, then what has moved to its history."
    )
    parser.add_argument("--state", choices=sorted(_STATES), default="all", help="only these (default: all)")
    parser.add_argument("--requester", help="only of this requester (base58)")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help=f"at most (default: {DEFAULT_LIMIT})")
    return run(tasks(parser.parse_args()))


async def tasks(args: argparse.Namespace) -> None:
    requester = None if args.requester is None else parse_requester(args.requester)
    with opened() as journal:
        held = await journal.newest_tasks(_STATES[args.state], requester, args.limit)
        rest = max(0, args.limit - len(held))
        finished = await journal.newest_finished(_STATES[args.state], requester, rest)
    rows = [*_held(held, time.time()), *map(_finished, finished)]
    head = ("task", "state", "reward", "left", "ended", "requester", "reason")
    print(columns([head, *rows], right=[2]) if rows else "none")


def _held(held: list[Task], now: float) -> Iterator[tuple[str, ...]]:
    for task in held:
        is_over = task.state in ENDED
        waits = WHY_IT_WAITS[task.waits_for] if task.waits_for else ""
        left, ended = ("", moment(task.ended_at)) if is_over else (span(task.end - now), "")
        yield _row(str(task.key), task.state, task.reward, left, ended, task.requester, task.reason or waits)


def _finished(task: Finished) -> tuple[str, ...]:
    pair = f"{task.execution_id}/{task.task_id}"
    return _row(pair, task.state, task.reward, "", moment(task.ended_at), task.requester, task.reason or "")


def _row(
    pair: str, state: State, reward: int, left: str, ended: str, requester: Requester, why: str
) -> tuple[str, ...]:
    return pair, state.value, lamports(reward), left, ended, requester, why
