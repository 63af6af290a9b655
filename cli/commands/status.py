"""`splitup-node status`: how this node stands."""

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping

from cli.commands.asking import opened
from cli.commands.plain import columns, lamports, moment, plain, span
from cli.commands.running import run, settings_of
from cli.commands.standing import OpenTask, Period, Standing, standing
from listener.journal.states import State
from listener.settings import JournalSettings


def main() -> int:
    parser = argparse.ArgumentParser(
        description="How this node stands, read from its journal, also while the listener is down: intake, tasks, what "
        "waits and why, signatures in flight, how far the chain is read, lamports earned, spent and forgone, budgets, "
        "refusals. Days are the chain's, UTC; tasks are counted as long as the journal keeps them."
    )
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object")
    return run(status(parser.parse_args()))


async def status(args: argparse.Namespace) -> None:
    with opened() as journal:
        now = await standing(journal, settings_of(JournalSettings), time.time())
    if args.json:
        print(json.dumps(dataclasses.asdict(now), indent=2, default=str))
    else:
        print("\n\n".join(part for part in parts(now) if part))


def parts(now: Standing) -> Iterator[str]:
    yield columns(_lines(now))
    yield "\n".join(["waiting", columns(map(_waiting, now.waiting))]) if now.waiting else ""
    yield columns(_money(now.periods), right=range(1, 4))
    yield "\n".join(["refused by the rules", columns(_refusals(now), right=[1])]) if now.refusals else ""


def _lines(now: Standing) -> Iterator[tuple[str, str]]:
    yield "listener", f"{'runs' if now.listener_runs else 'does not run'}, journal {now.journal}"
    yield "intake", now.intake + (f", halted: {now.halted}" if now.halted else "")
    yield "open", _counted(now.open)
    if now.oldest is not None:
        yield "oldest", _oldest(now.oldest)
    yield "ended", _counted(now.ended)
    if now.owed_to_compute:
        yield "owed", f"{now.owed_to_compute} ended, and still to be settled with compute"
    flying = (f"{one.signatures} {one.kind} {one.status}, fees {lamports(one.fees)}" for one in now.in_flight)
    yield "in flight", "; ".join(flying) or "no signature"
    yield "read", _read(now)
    for budget in now.budgets:
        yield f"budget {budget.name}", f"{lamports(budget.left)} of {lamports(budget.limit)} lamports left today"
    if now.unanswered_requests:
        yield "requests", f"{now.unanswered_requests} of commands wait for the listener"


def _counted(states: Mapping[State, int]) -> str:
    return ", ".join(f"{state} {states[state]}" for state in State if state in states) or "none"


def _oldest(task: OpenTask) -> str:
    age = "" if task.age_s is None else f", taken {span(task.age_s)} ago"
    return f"{task.task} {task.state}{age}, {span(task.left_s)} left"


def _read(now: Standing) -> str:
    told = "nothing yet" if now.cursor_slot is None else f"to slot {now.cursor_slot}"
    if now.catching_up_at_slot is not None:
        told += f", catching up, down to slot {now.catching_up_at_slot}"
    gaps = ", ".join(f"{gap.from_slot} to {gap.to_slot}" for gap in now.gaps)
    return f"{told}, without slots {gaps}" if gaps else told


def _waiting(task: OpenTask) -> tuple[str, ...]:
    return f"  {task.task}", lamports(task.reward), f"{span(task.left_s)} left", plain(task.waits_for)


def _money(periods: list[Period]) -> Iterator[tuple[str, ...]]:
    """One row for each figure, one column for each period."""
    yield "", *(period.name for period in periods)
    for field in dataclasses.fields(Period)[1:]:
        yield field.name, *(lamports(getattr(period, field.name)) for period in periods)


def _refusals(now: Standing) -> Iterator[tuple[object, ...]]:
    for one in now.refusals:
        yield f"  {one.reason}", one.count, f"requesters {one.requesters}", f"last {moment(one.last_at)}"
