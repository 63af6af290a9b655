"""What is done to the workers of a real compute process, and the quick tasks of another requester meanwhile."""

import os
import random
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tests.hostile.hostile_worker import Deed
from tests.integration.compute_process import ComputeProcess, living, until
from tests.integration.compute_tasks import ADD, floats, request, slow_task

OTHER_REQUESTER = "4Nd1mYQzvgV8Vr3Z3nYb7pD6T8K2jqB2eqwY3xgWqV5Q"
DEADLINE_S = 2
Task = dict[str, object]


def deed_task(compute: ComputeProcess, deed: Deed, **members: object) -> Task:
    """A sum, after its worker has done the deed."""
    left = compute.put_tensor(f"deed{deed}", floats(3), struct.pack("<3f", deed, 2, 3), folder="public")
    right = compute.put_tensor("right", floats(3), struct.pack("<3f", 10, 20, 30), folder="public")
    return request(compute.put_package(ADD, folder="public"), [left, right], **members)


class QuickTasks:
    """One after the other without a pause until `end`; `ends` counts how each ended."""

    def __init__(self, compute: ComputeProcess) -> None:
        self._compute = compute
        self._http = compute.client()
        self._over = threading.Event()
        self.ends: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1)
        self._streaming = self._thread.submit(self._stream)

    def end(self) -> None:
        self._over.set()
        self._thread.shutdown()
        self._http.close()
        self._streaming.result()

    def at_least(self, count: int) -> None:
        until(lambda: self.ends["done"] >= count or self._streaming.done(), f"{count} quick tasks are done", 60)

    def _stream(self) -> None:
        while not self._over.is_set():
            task = deed_task(self._compute, Deed.NOTHING, requester=OTHER_REQUESTER)
            self.ends[self._ended(task)] += 1

    def _ended(self, task: Task) -> str:
        path = f"/api/task/{task['executionId']}/{task['taskId']}"
        self._http.post("/api/task", json=task, headers={"Prefer": "wait=60"}).raise_for_status()
        answer = self._http.get(path, params={"wait": 60})
        if answer.status_code == 404:
            return "cancelled"
        status = answer.json()
        self._http.delete(path, params={"attempt": task["attempt"], "acknowledge": "unpaid"}).raise_for_status()
        if status["stage"] == "done":
            return "done"
        return f"{status['reason']}: {status['result']['errorMessage']}"


class Strikes:
    """Drawn from a seed, each until the task that it was about has ended and left nothing."""

    def __init__(self, compute: ComputeProcess, rng: random.Random) -> None:
        self._compute = compute
        self._rng = rng
        self.kinds: tuple[Callable[[], None], ...] = (
            self.killed, self.stopped, self.crashed, self.overfed, self.hung, self.hung_until_its_deadline,
        )  # fmt: skip
        self.done: Counter[str] = Counter()

    def strike(self, kind: Callable[[], None] | None = None) -> None:
        kind = kind or self._rng.choice(self.kinds)
        kind()
        self.done[kind.__name__] += 1

    def killed(self) -> None:
        """Whoever's worker it is."""
        task = self._running(slow_task(self._compute))
        time.sleep(self._rng.uniform(0, 0.1))
        if workers := self._compute.worker_pids():
            _signal(self._rng.choice(workers), signal.SIGKILL)
        self._gone(task)

    def stopped(self) -> None:
        """Every worker, until a cancellation ends it."""
        task = self._running(slow_task(self._compute))
        workers = self._compute.worker_pids()
        for worker in workers:
            _signal(worker, signal.SIGSTOP)
        self._gone(task)

        def all_are_ended() -> bool:
            for known in self._compute.http.get("/api/task").json():
                if known["stage"] == "running":
                    self._compute.delete(known, force=True)
            return not living(workers)

        until(all_are_ended, "workers that do not answer are ended", 60)

    def crashed(self) -> None:
        self._failed(deed_task(self._compute, Deed.CRASH), "ComputationFailed", "SIGSEGV")

    def overfed(self) -> None:
        self._failed(deed_task(self._compute, Deed.EAT_MEMORY), "OutOfMemory", "allocate memory")

    def hung(self) -> None:
        self._gone(self._running(deed_task(self._compute, Deed.HANG)))

    def hung_until_its_deadline(self) -> None:
        members = {"deadline": 1_000 + DEADLINE_S, "chainTime": 1_000, "landingMargin": 0}
        self._failed(deed_task(self._compute, Deed.HANG, **members), "DeadlinePassed", "")

    def _running(self, task: Task) -> Task:
        self._compute.post(task)
        self._compute.reach(task, "running")
        return task

    def _gone(self, task: Task) -> None:
        answer = self._compute.delete(task, acknowledge="unpaid", force=True)
        assert answer.status_code in (200, 204), answer.text
        assert self._compute.status(task).status_code == 404

    def _failed(self, task: Task, reason: str, words: str) -> None:
        self._compute.post(task)
        ended = self._compute.ended(task)
        assert ended["reason"] == reason, ended
        assert words in ended["result"]["errorMessage"]
        self._gone(task)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(pid, number)
