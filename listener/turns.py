"""Which of the tasks that wait for compute is posted next. Pure."""

from collections.abc import Collection, Sequence
from math import log2

from listener.journal.records import Waiting
from shared.ids import Requester


def in_turn(waiting: Sequence[Waiting], now: float, put_last: Collection[Requester]) -> list[Waiting]:
    """By what is left until the end, to a power of two, then by reward. `now` is Unix seconds by the chain's clock.

    `put_last` are requesters whose tasks ended unpaid too often today.
    """

    def turn(task: Waiting) -> tuple[bool, int, int, int]:
        left_s = max(1.0, task.end - now)
        return task.requester in put_last, int(log2(left_s)), -task.reward, task.id

    return sorted(waiting, key=turn)
