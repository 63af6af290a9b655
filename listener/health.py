"""GET /health and GET /ready of the listener, in the listener's own loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import FastAPI, Response

from shared.errors import SplitUpError
from shared.messages import Check, Readiness
from shared.token import RequireToken

LIMIT_S: Final = 4.0
"""For one check: whoever asks has a time-out too."""

CheckNow = Callable[[], Awaitable[tuple[bool, str, str | None]]]
"""Whether it is well, its value, and what to do where it is not. May raise SplitUpError: then it is not."""


class Checks:
    """Each check with since when it is as it is."""

    def __init__(self, checks: Mapping[str, CheckNow]) -> None:
        self._checks = checks
        self._since: dict[str, tuple[bool, float]] = {}

    async def readiness(self) -> Readiness:
        found = await asyncio.gather(*(self._check(name, check) for name, check in self._checks.items()))
        checks = dict(zip(self._checks, found, strict=True))
        return Readiness(ready=all(check.ok for check in checks.values()), checks=checks)

    async def _check(self, name: str, check: CheckNow) -> Check:
        try:
            async with asyncio.timeout(LIMIT_S):
                ok, value, what_to_do = await check()
        except TimeoutError:
            ok, value, what_to_do = False, f"no answer within {LIMIT_S:g} s", None
        except SplitUpError as error:
            ok, value, what_to_do = False, f"{type(error).__name__}: {error}", None
        was, since = self._since.get(name, (not ok, 0.0))
        if was != ok:
            since = time.time()
            self._since[name] = (ok, since)
        return Check(ok=ok, value=value, since=since, what_to_do=None if ok else what_to_do)


def health_app(checks: Checks, token: str) -> FastAPI:
    app = FastAPI(title="SplitUp Node, listener", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(RequireToken, token=token)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> Response:
        readiness = await checks.readiness()
        return Response(
            readiness.to_wire(), status_code=200 if readiness.ready else 503, media_type="application/json"
        )

    return app
