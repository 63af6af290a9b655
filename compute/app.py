"""The HTTP API of compute: routes, and what each answers."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict
from starlette.exceptions import HTTPException

from compute.admission import Refused
from compute.readiness import ReadinessProbes
from compute.service import Service
from compute.task_table import Entry
from shared.errors import InvalidId, StateUnavailable
from shared.ids import Attempt, TaskKey, parse_execution_id, parse_task_id
from shared.messages import (
    ExecutionIdField,
    Message,
    RequesterField,
    Stage,
    TaskAcceptedResponse,
    TaskIdField,
    TaskRequest,
)
from shared.problem import problem
from shared.token import RequireToken

MAX_WAIT_S = 60.0
_PREFERRED_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,9})", re.ASCII | re.IGNORECASE)

Wait = Annotated[float, Query(ge=0)]
AttemptQuery = Annotated[Attempt | None, Query(ge=0)]


class _Body(TaskRequest):
    """Of a request that came over the wire, where names are camelCase only."""

    model_config = ConfigDict(validate_by_name=False)


def create_app(service: Service, readiness: ReadinessProbes, token: str) -> FastAPI:
    app = FastAPI(title="SplitUp Node: compute", openapi_url=None)
    app.add_middleware(RequireToken, token=token)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _unknown_call)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StateUnavailable, _state_unavailable)
    _add_task_routes(app, service)
    _add_stop_routes(app, service)

    @app.get("/health")
    async def health() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/ready")
    async def ready() -> Response:
        report = readiness.report()
        return _json(report, 200 if report.ready else 503)

    return app


def _add_task_routes(app: FastAPI, service: Service) -> None:
    @app.post("/api/task")
    async def submit(request: Request, body: _Body, prefer: Annotated[str, Header()] = "") -> Response:
        try:
            entry, is_new = await service.submit(body)
        except Refused as exc:
            # The members that every refusal of a POST has, beside its own.
            exc.members.setdefault("reason", exc.kind)
            exc.members.update(executionId=body.execution_id, taskId=body.task_id, accepted=False)
            raise
        preferred = _PREFERRED_WAIT.search(prefer)
        if preferred is not None:
            limit_s = min(float(preferred.group(1)), MAX_WAIT_S)
            ended = await _while_asked(request, service.wait(entry.key, None, limit_s))
            if ended is entry and entry.result is not None:
                return _json(entry.result)
        if not is_new:
            return _json(entry.status())
        accepted = TaskAcceptedResponse(execution_id=body.execution_id, task_id=body.task_id, accepted=True)
        return _json(accepted, 202)

    @app.get("/api/task")
    async def all_tasks() -> Response:
        return _json_list([entry.summary() for entry in service.all_entries()])

    @app.get("/api/task/{execution_id}/{task_id}")
    async def status(
        request: Request,
        execution_id: ExecutionIdField,
        task_id: TaskIdField,
        wait: Wait = 0.0,
        stage: Stage | None = None,
    ) -> Response:
        key = TaskKey(execution_id, task_id)
        if wait:
            entry = await _while_asked(request, service.wait(key, stage, min(wait, MAX_WAIT_S)))
        else:
            entry = service.find(key)
        return _unknown(key) if entry is None else _json(entry.status())


def _add_stop_routes(app: FastAPI, service: Service) -> None:
    @app.delete("/api/task/{execution_id}/{task_id}")
    async def stop(
        execution_id: ExecutionIdField,
        task_id: TaskIdField,
        attempt: AttemptQuery = None,
        force: bool = False,
        acknowledge: Annotated[str | None, Query(pattern="^(paid|unpaid)$")] = None,
        requester: RequesterField | None = None,
    ) -> Response:
        key = TaskKey(execution_id, task_id)
        if acknowledge is None:
            entry = await service.cancel(key, attempt, force=force)
        else:
            paid = acknowledge == "paid"
            entry = await service.acknowledge(key, attempt, paid=paid, requester=requester, force=force)
        return Response(status_code=204) if entry is None else _json(_cancelled(entry))

    @app.delete("/api/task/{execution_id}")
    async def stop_execution(execution_id: ExecutionIdField, force: bool = False) -> Response:
        entries = await service.cancel_execution(execution_id, force=force)
        return _json_list(
            [entry.summary() if service.find(entry.key) is entry else _cancelled(entry) for entry in entries]
        )


async def _while_asked(request: Request, waiting: Coroutine[None, None, Entry | None]) -> Entry | None:
    """What was waited for; None once the client is gone: nobody reads the answer."""

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async with asyncio.TaskGroup() as group:
        wait, gone = group.create_task(waiting), group.create_task(until_gone())
        await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        wait.cancel()
    return None if wait.cancelled() else wait.result()


def _cancelled(entry: Entry) -> Message:
    return entry.summary().model_copy(update={"stage": Stage.CANCELLED})


def _unknown(key: TaskKey) -> Response:
    return problem(404, "unknown-task", f"no task {key} is known here")


def _json(message: Message, status: int = 200) -> Response:
    return Response(message.to_wire(), status, media_type="application/json")


def _json_list(messages: Sequence[Message]) -> Response:
    return Response(f"[{','.join(message.to_wire() for message in messages)}]", media_type="application/json")


async def _unknown_call(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 400:  # FastAPI's, of a body that its parser of JSON gave up on
        return _invalid_body("body", exc.detail, {})
    return problem(exc.status_code, "unknown-call", exc.detail)


async def _refused(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refused)
    return problem(exc.status, exc.kind, exc.detail, **exc.members)


async def _state_unavailable(_: Request, exc: Exception) -> Response:
    return problem(503, "state-unavailable", str(exc))


async def _invalid_request(_: Request, exc: Exception) -> Response:
    """422, naming the field. The ids are told back where the body has well-formed ones."""
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return _invalid_body(field, first["msg"], exc.body if isinstance(exc.body, dict) else {})


def _invalid_body(field: str, what: str, body: Mapping[str, object]) -> Response:
    return problem(
        422,
        "invalid-request",
        f"{field}: {what}",
        field=field,
        executionId=_id_or_none(body.get("executionId"), parse_execution_id),
        taskId=_id_or_none(body.get("taskId"), parse_task_id),
        accepted=False,
        reason="invalid-request",
    )


def _id_or_none(value: object, parse: Callable[[str], str]) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return parse(value)
    except InvalidId:
        return None
