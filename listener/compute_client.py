"""The way to the compute process: HTTP as the protocol has it, every answer as a value or a typed error."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from listener.aiohttp_transport import AiohttpTransport
from shared.errors import ComputeBusy, ComputeConflict, ComputeRefused, ComputeUnavailable
from shared.ids import Attempt, Requester, TaskKey
from shared.messages import Readiness, Stage, TaskRequest, TaskResult, TaskStatus, TaskSummary

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 10.0
"""How long an answer may take beyond the wait that was asked for."""
BUSY_RETRY_S: Final = 2.0
"""Where a 429 names no Retry-After."""
MIN_RETRY_S, MAX_RETRY_S = 0.1, 60.0
"""A Retry-After of nothing is no reason to ask without end, nor a long one to let a deadline pass."""

_SUMMARIES: Final[TypeAdapter[list[TaskSummary]]] = TypeAdapter(list[TaskSummary])
_PROBLEM: Final[TypeAdapter[dict[str, object]]] = TypeAdapter(dict[str, object])
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """POST: compute has it now, as new work."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """DELETE: it runs no more and leaves no output; compute does not know the pair (any more)."""


@dataclass(frozen=True, slots=True)
class Storing:
    """DELETE: its outputs are being stored."""


@dataclass(frozen=True, slots=True)
class Finished:
    """DELETE: it had ended before, with this result."""

    result: TaskResult


def compute_http(url: str, token: str) -> httpx.AsyncClient:
    """The client for every call to compute; use it as an async context manager."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=_timeout(ANSWER_TIMEOUT_S),
        transport=AiohttpTransport(),
    )


def _timeout(limit_s: float) -> httpx.Timeout:
    return httpx.Timeout(limit_s, connect=CONNECT_TIMEOUT_S)


class ComputeClient:
    """Calls raise ComputeUnavailable where no usable answer came. `http` is as `compute_http` makes it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def post(self, request: TaskRequest) -> Accepted | TaskStatus:
        """Hand a task over, or learn how far it is. Raises ComputeBusy, ComputeConflict, ComputeRefused."""
        answer = await self._call(
            "POST", "/api/task", content=request.to_wire(), headers={"Content-Type": "application/json"}
        )
        if answer.status_code == 202:
            return Accepted()
        return _parsed(TaskStatus.model_validate_json, answer) if answer.status_code == 200 else _raise(answer)

    async def status(self, key: TaskKey, wait_s: int, stage: Stage | None) -> TaskStatus | None:
        """Where the task is; waits while it is in `stage`, at most `wait_s`. None where the pair is unknown."""
        params: dict[str, str | int] = {"wait": wait_s} | ({"stage": stage.value} if stage else {})
        answer = await self._call("GET", _path(key), wait_s, params=params)
        if answer.status_code == 404:
            return None
        return _parsed(TaskStatus.model_validate_json, answer) if answer.status_code == 200 else _raise(answer)

    async def stop(self, key: TaskKey, attempt: Attempt, *, force: bool) -> Stopped | Storing | Finished:
        """End it without output, unless it is storing (and not forced) or has ended."""
        params: dict[str, str | int] = {"attempt": attempt}
        if force:
            params["force"] = "true"
        answer = await self._call("DELETE", _path(key), params=params)
        if answer.status_code in (200, 204):
            return Stopped()
        return _stop_conflict(answer) if answer.status_code == 409 else _raise(answer)

    async def acknowledge(self, key: TaskKey, attempt: Attempt, requester: Requester, *, paid: bool) -> None:
        """The end is final: the requester's result is dropped, where unpaid also what its runs stored."""
        word = "paid" if paid else "unpaid"
        params: dict[str, str | int] = {"attempt": attempt, "acknowledge": word, "requester": requester}
        answer = await self._call("DELETE", _path(key), params=params)
        if answer.status_code not in (200, 204):
            _raise(answer)

    async def tasks(self) -> list[TaskSummary]:
        answer = await self._call("GET", "/api/task")
        return _parsed(_SUMMARIES.validate_json, answer) if answer.status_code == 200 else _raise(answer)

    async def readiness(self) -> Readiness:
        answer = await self._call("GET", "/ready")
        if answer.status_code not in (200, 503):
            _raise(answer)
        return _parsed(Readiness.model_validate_json, answer)

    async def _call(self, method: str, path: str, wait_s: float = 0.0, **options: Any) -> httpx.Response:
        limit_s = wait_s + ANSWER_TIMEOUT_S
        try:
            async with asyncio.timeout(
                limit_s
            ):  # httpx has limits for each piece only, and pieces may come for ever
                return await self._http.request(method, path, timeout=_timeout(limit_s), **options)
        except (httpx.HTTPError, TimeoutError) as error:
            raise ComputeUnavailable(f"{method} {path}: {type(error).__name__} {error}") from error


def _path(key: TaskKey) -> str:
    return f"/api/task/{key.execution_id}/{key.task_id}"


def _parsed(parse: Callable[[bytes], _T], answer: httpx.Response) -> _T:
    try:
        return parse(answer.content)
    except ValidationError as error:
        raise ComputeUnavailable(
            f"{answer.request.url.path}: an answer that is not as promised: {error}"
        ) from error


def _problem(answer: httpx.Response) -> dict[str, object]:
    return _parsed(_PROBLEM.validate_json, answer)


def _stop_conflict(answer: httpx.Response) -> Storing | Finished:
    problem = _problem(answer)
    if problem.get("stage") == Stage.STORING:
        return Storing()
    try:
        return Finished(TaskResult.model_validate(problem.get("result")))
    except ValidationError as error:
        raise ComputeUnavailable(f"a conflict without a stage or result: {problem}") from error


def _raise(answer: httpx.Response) -> NoReturn:
    """An answer that says no, as the error that it means."""
    path, status = answer.request.url.path, answer.status_code
    if status == 429:
        raise ComputeBusy(f"{path}: compute has no place free", _retry_after_s(answer))
    if status in (409, 422):
        problem = _problem(answer)
        text = f"{path}: {problem.get('type')}: {problem.get('detail')}"
        raise ComputeConflict(text, problem) if status == 409 else ComputeRefused(text, problem)
    if status == 401:
        raise ComputeUnavailable(
            f"{path}: compute does not take this token; both need the same SPLITUP_TOKEN_FILE"
        )
    raise ComputeUnavailable(f"{path}: HTTP {status}")


def _retry_after_s(answer: httpx.Response) -> float:
    """Retry-After in whole seconds; compute sends no dates."""
    text = answer.headers.get("Retry-After", "")
    asked_s = float(text) if text.isascii() and text.isdigit() and len(text) < 10 else BUSY_RETRY_S
    return min(max(asked_s, MIN_RETRY_S), MAX_RETRY_S)
