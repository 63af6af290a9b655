"""`python -m listener`, killed at the point that the environment names: see points.py."""

import json
from typing import Any

import httpx

from tests.faults.points import Points, count_commits

_send = httpx.AsyncClient.send


def count_requests(points: Points) -> None:
    """What changes something outside: transactions that are sent, tasks that are posted and deleted at compute."""

    async def send(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        label = _label(request)
        if label is None:
            return await _send(self, request, **options)
        with points.around(label):
            return await _send(self, request, **options)

    httpx.AsyncClient.send = send  # type: ignore[method-assign]


def _label(request: httpx.Request) -> str | None:
    if request.url.path.startswith("/api/task"):
        if request.method == "DELETE":
            return f"DELETE {request.url.params.get('acknowledge', 'stop')}"
        return request.method if request.method == "POST" else None
    method = json.loads(request.content).get("method") if request.method == "POST" else None
    return method if method == "sendTransaction" else None


if __name__ == "__main__":
    points = Points()
    count_commits(points)
    count_requests(points)
    from listener import catch_up
    from listener.__main__ import main

    # Each backfill then has pages between which it marks how far it is.
    catch_up.FIRST_PAGE = catch_up.MAX_SIGNATURES = 1  # type: ignore[misc]
    main()
