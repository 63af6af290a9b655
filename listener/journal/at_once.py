"""An executor that runs each call where it is made: for a command, which has nothing else to do meanwhile."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AtOnce(Executor):
    def submit(self, call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """The future is done when this returns; what the call raises is in it."""
        future: Future[_T] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 (whatever it is goes on, to whoever waits for the future)
            future.set_exception(error)
        return future
