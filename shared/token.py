"""The bearer token that both processes share: a file that only its owner can read."""

import hmac
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import Request, Response

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


def require_token(
    token: str,
) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """HTTP middleware: everything but `/health` needs the token, compared in constant time."""
    expected = f"Bearer {token}".encode()

    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if request.url.path not in OPEN_PATHS and not hmac.compare_digest(given, expected):
            return problem(401, "unauthorized", "send Authorization: Bearer with the shared token")
        return await call_next(request)

    return check
