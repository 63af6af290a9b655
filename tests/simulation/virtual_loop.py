"""An asyncio loop whose time is virtual: where nothing is ready, it goes on at the next timer at once."""

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Final

Call = concurrent.futures.Future[Any]

MAX_ROUNDS_AT_ONE_MOMENT: Final = 20_000
"""More than any burst of work takes; a loop that waits for nothing would go on for ever."""


class Livelock(RuntimeError):
    """Something goes on and on while no time passes, or everything waits for what nobody will do."""


owner: ContextVar[int] = ContextVar("owner", default=0)
"""Which start of the listener a task belongs to; those that a task makes belong to the same."""


class CountedTask(asyncio.Task[Any]):
    """Hashed by its number, so that sets of tasks are walked in the same order in each run."""

    made = 0

    def __init__(self, coro: Coroutine[Any, Any, Any], *, context: Context | None = None, **options: Any) -> None:
        CountedTask.made += 1
        self._number = CountedTask.made  # asyncio hashes it while it is made
        super().__init__(coro, context=context, **options)
        self.owner = owner.get() if context is None else context.get(owner, 0)

    def __hash__(self) -> int:
        return self._number


class _Selector:
    """In place of the operating system: waiting for input is waiting for the next timer."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        self._loop.pass_time(timeout)
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._rounds = 0
        self._selector = _Selector(self)
        self._clock_resolution = 1e-9
        CountedTask.made = 0
        self.set_task_factory(lambda loop, coro, **options: CountedTask(coro, loop=loop, **options))

    def time(self) -> float:
        return self._now

    def pass_time(self, timeout: float | None) -> None:
        if timeout is None:
            raise Livelock("everything waits, and no timer is set")
        self._rounds = 0 if timeout > 0 else self._rounds + 1
        if self._rounds > MAX_ROUNDS_AT_ONE_MOMENT:
            raise Livelock(f"{self._rounds} rounds of the loop at {self._now:.3f} s, and no time passes")
        self._now += max(0.0, timeout)

    def _process_events(self, event_list: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake this one."""


class DiskQueue(concurrent.futures.Executor):
    """The journal's thread as a queue in virtual time: one call after the other, each some moments long.

    What waits can still be cancelled, what has begun cannot: as with a real thread. `latency_s` is drawn anew for
    each call; `effect` is called before and after each, and raises once the process is dead. While `at_once`, calls
    run in `submit`, as nothing else runs while a journal is opened or closed.
    """

    def __init__(self, latency_s: Callable[[], float], effect: Callable[[str], None]) -> None:
        self._latency_s = latency_s
        self._effect = effect
        self._waiting: deque[tuple[Call, Callable[[], Any]]] = deque()
        self._is_busy = False
        self.at_once = True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Call:
        future = Call()
        if self.at_once:
            _run(future, lambda: fn(*args, **kwargs))
        else:
            self._waiting.append((future, lambda: fn(*args, **kwargs)))
            self._next()
        return future

    def close_at_once(self) -> None:
        """The process is dead: what waits never begins."""
        self._waiting.clear()
        self.at_once = True

    def _next(self) -> None:
        while self._waiting and not self._is_busy:
            future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                self._is_busy = True
                asyncio.get_running_loop().call_later(self._latency_s(), self._finish, future, call)

    def _finish(self, future: Call, call: Callable[[], Any]) -> None:
        if self.at_once:
            return  # the process died meanwhile
        self._is_busy = False
        _run(future, lambda: self._between_effects(call))
        self._next()

    def _between_effects(self, call: Callable[[], Any]) -> Any:
        self._effect("before the journal")
        value = call()
        self._effect("after the journal")
        return value


def _run(future: Call, call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 # handed to whoever waits, as a thread would
        future.set_exception(error)
