"""The bearer token that both processes share: a file that only its owner can read."""

import hmac
import stat
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import ConfigurationError
from shared.problem import problem

MIN_TOKEN_LENGTH = 32
OPEN_PATHS = frozenset({"/health"})


def read_private_file(path: Path, what: str) -> str:
    """Read a file that nobody but its owner may read. Raises ConfigurationError, which says how to mend it."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {what} {path}: {error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"{what} {path} can be read by others: run chmod 600 {path}")
    return text


def read_token(path: Path) -> str:
    token = read_private_file(path, "the token file")
    if len(token) < MIN_TOKEN_LENGTH:
        raise ConfigurationError(f"the token in {path} is shorter than {MIN_TOKEN_LENGTH} characters")
    return token


class RequireToken:
    """ASGI middleware: everything but `/health` needs the token, compared in constant time."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("authorization", "").encode("latin-1")
        if scope["path"] in OPEN_PATHS or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
        else:
            denied = problem(401, "unauthorized", "send Authorization: Bearer with the shared token")
            await denied(scope, receive, send)
