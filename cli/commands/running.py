"""How every command runs: until it is done or interrupted, with its errors as one line."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from cli.commands.plain import plain
from shared.errors import ConfigurationError, SplitUpError, leaves
from shared.settings_errors import told

INTERRUPTED = 130

_Settings = TypeVar("_Settings", bound=BaseSettings)


def run(command: Coroutine[Any, Any, bool | None]) -> int:
    """The command's exit status: 0, 130 when interrupted, 1 where it gives False or after an error.

    Errors are told on standard error, one on a line, also those that tasks raised together.
    """
    status = 0
    try:
        status = 1 if asyncio.run(_interruptible(command)) is False else 0
    except* SplitUpError as errors:
        for error in leaves(errors):
            # A node's words, or a provider's, may be in it.
            print(plain(f"{sys.argv[0]}: {type(error).__name__}: {error}"), file=sys.stderr)
        status = 1
    except* (KeyboardInterrupt, asyncio.CancelledError):
        status = INTERRUPTED
    return status


async def _interruptible(command: Coroutine[Any, Any, bool | None]) -> bool | None:
    """SIGTERM ends it as Ctrl-C does: what it started is stopped."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await command


def settings_of(kind: type[_Settings]) -> _Settings:
    """Out of the environment. Raises ConfigurationError, which names what is missing or wrong."""
    try:
        return kind()
    except ValidationError as error:
        raise ConfigurationError(f"{told(error)}. docs/settings.md lists the settings") from error


def existing(path: Path, what: str) -> Path:
    """Raises ConfigurationError where it is not there."""
    if not path.exists():
        raise ConfigurationError(f"{what} {path} does not exist")
    return path
