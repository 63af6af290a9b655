"""Deleting objects, and ending uploads, that belong to no result. What does not succeed now is tried again later."""

import logging

from compute.results import CreatedObject, Results
from compute.storage.groups import one_error_group
from compute.storage.store import Storage
from shared.errors import TaskError
from shared.ids import Requester, TaskKey
from shared.logs import fields

log = logging.getLogger(__name__)


async def delete_leftovers(
    results: Results, storage: Storage, key: TaskKey, requester: Requester | None = None
) -> None:
    """Delete what the pair's runs for a requester (None: for all) created and no result keeps.

    Nothing of it may be stored meanwhile.
    """
    found = await results.to_delete(key, requester)
    # Uploads first: one that has ended makes no object any more.
    for are_uploads in (True, False):
        # All at once: the pair waits for as long as one silent answer may take, not for one after the other.
        async with one_error_group() as group:
            for created in found:
                if (created.upload_id is not None) == are_uploads:
                    group.create_task(_delete(results, storage, created))


async def _delete(results: Results, storage: Storage, created: CreatedObject) -> None:
    try:
        if created.upload_id is None:
            await storage.delete(created.uri)
        else:
            await storage.abort_upload(created.uri, created.upload_id)
    except TaskError as exc:
        log.warning(
            "an object could not be deleted; it will be tried again",
            extra=fields(uri=str(created.uri), why=str(exc)),
        )
    else:
        await results.deleted(created)
