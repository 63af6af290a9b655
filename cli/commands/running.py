"""How every command runs: until it is done or interrupted, with its errors as one line."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from requester.settings import RequesterSettings
from shared.errors import ConfigurationError, SplitUpError

INTERRUPTED = 130


def run(command: Coroutine[Any, Any, None]) -> int:
    """The command's exit status: 0, 1 after an error that is told on standard error, 130 when interrupted."""
    status = 0
    try:
        asyncio.run(_interruptible(command))
    except* SplitUpError as errors:
        for error in _leaves(errors):
            print(f"{sys.argv[0]}: {type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    except* (KeyboardInterrupt, asyncio.CancelledError):
        status = INTERRUPTED
    return status


async def _interruptible(command: Coroutine[Any, Any, None]) -> None:
    """SIGTERM ends it as Ctrl-C does: what it started is stopped."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await command


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def requester_settings() -> RequesterSettings:
    """Out of the environment. Raises ConfigurationError, which names what is missing or wrong."""
    try:
        return RequesterSettings()
    except ValidationError as error:
        wrong = "; ".join(
            f"SPLITUP_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()
        )
        raise ConfigurationError(f"{wrong}. docs/settings.md lists the settings") from error


def existing(path: Path, what: str) -> Path:
    """Raises ConfigurationError where it is not there."""
    if not path.exists():
        raise ConfigurationError(f"{what} {path} does not exist")
    return path
