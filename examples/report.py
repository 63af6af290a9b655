"""What the demo prints at its end: the tasks, the sentences, the difference."""

import itertools
from collections.abc import Iterable, Sequence

import torch

from examples.stages import TaskView
from shared.messages import Stage

SHOWN_STAGES = (Stage.QUEUED, Stage.FETCHING, Stage.RUNNING, Stage.STORING, Stage.DONE)


def print_tasks(tasks: Sequence[TaskView]) -> None:
    """One row per task: when it entered each stage, in seconds after its assignment was sent, and what it earned."""
    head = ["task", "attempt", "assigned", *SHOWN_STAGES, "paid", "units", "reward (lamports)", ""]
    print_table([head, *(_row(task) for task in tasks)])
    print("\nSignatures")
    for task in tasks:
        assert task.completed is not None
        print(f"  {task.name}  assign_task     {task.assigned.landed.signature}")
        print(f"  {'':<{len(task.name)}}  task_completed  {task.completed.ending.signature}")


def _row(task: TaskView) -> list[str]:
    assert task.completed is not None
    entered = {stage.stage: stage.at for stage in task.stages}
    times = [entered.get(stage) for stage in SHOWN_STAGES]
    return [
        task.name,
        str(task.assigned.attempt),
        f"+{task.confirmed_at - task.sent_at:.2f}",
        *("-" if at is None else f"+{at - task.sent_at:.2f}" for at in times),
        f"+{task.paid_at - task.sent_at:.2f}",
        str(task.assigned.assignment.compute_units),
        f"{task.completed.execution.reward:,}",
        "paid",
    ]


def print_similarities(sentences: Sequence[str], vectors: torch.Tensor) -> None:
    """Cosines of each two of the unit vectors, float32 [sentences, features], the closest first."""
    cosines = vectors @ vectors.T
    pairs = itertools.combinations(range(len(sentences)), 2)
    for one, other in sorted(pairs, key=lambda pair: -float(cosines[pair])):
        print(f"  {float(cosines[one, other]):6.3f}  {sentences[one]} | {sentences[other]}")


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    listed = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    for row in listed:
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join([first, *others]).rstrip())
