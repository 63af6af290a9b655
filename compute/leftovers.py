"""Deleting objects that belong to no result. What cannot be deleted now is tried again later."""

import logging

from compute.results import CreatedObject, Results
from compute.storage.groups import one_error_group
from compute.storage.store import Storage
from shared.errors import TaskError
from shared.ids import TaskKey
from shared.logs import fields

log = logging.getLogger(__name__)


async def delete_leftovers(results: Results, storage: Storage, key: TaskKey) -> None:
    """Delete what the pair's runs created and no result keeps. Nothing of the pair may be stored meanwhile."""
    # All at once: the pair waits for as long as one silent answer may take, not for one after the other.
    async with one_error_group() as group:
        for created in await results.to_delete(key):
            group.create_task(_delete(results, storage, created))


async def _delete(results: Results, storage: Storage, created: CreatedObject) -> None:
    try:
        await storage.delete(created.uri)
    except TaskError as exc:
        log.warning(
            "an object could not be deleted; it will be tried again",
            extra=fields(uri=str(created.uri), why=str(exc)),
        )
    else:
        await results.deleted(created)
