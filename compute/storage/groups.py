"""A task group whose first failure is raised as itself, so that callers meet errors and no groups of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def one_error_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Like asyncio.TaskGroup: the first failure cancels the other tasks. What they raise after it is left out."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failed:  # of whatever kind: it goes on as what it holds
        error = failed.exceptions[0]
        raise error from error.__cause__
