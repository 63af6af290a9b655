"""One Storage for all schemes that are configured."""

from collections.abc import Mapping, Sequence

from compute.storage.groups import one_error_group
from compute.storage.store import NO_BOOK, ObjectStart, Storage, UploadBook
from shared.errors import StorageUnavailable
from shared.uris import ObjectUri


class RoutedStorage:
    """Passes each call on to the storage of the URI's scheme."""

    def __init__(self, schemes: Mapping[str, Storage]) -> None:
        self._schemes = dict(schemes)

    def _storage(self, uri: ObjectUri) -> Storage:
        storage = self._schemes.get(uri.scheme)
        if storage is None:
            raise StorageUnavailable(f"{uri}: this node has no {uri.scheme}:// prefix in its settings")
        return storage

    async def read_start(self, uri: ObjectUri, length: int) -> ObjectStart:
        return await self._storage(uri).read_start(uri, length)

    async def read_range(self, uri: ObjectUri, start: int, length: int, version: str | None = None) -> bytes:
        return await self._storage(uri).read_range(uri, start, length, version)

    async def read_into(self, uri: ObjectUri, start: int, view: memoryview, version: str | None = None) -> None:
        await self._storage(uri).read_into(uri, start, view, version)

    async def put_new(
        self, uri: ObjectUri, parts: Sequence[bytes | memoryview], book: UploadBook = NO_BOOK
    ) -> bool:
        return await self._storage(uri).put_new(uri, parts, book)

    async def abort_upload(self, uri: ObjectUri, upload_id: str) -> None:
        await self._storage(uri).abort_upload(uri, upload_id)

    async def delete(self, uri: ObjectUri) -> None:
        await self._storage(uri).delete(uri)

    async def probe(self) -> None:
        async with one_error_group() as group:
            for storage in self._schemes.values():
                group.create_task(storage.probe())

    def close(self) -> None:
        for storage in self._schemes.values():
            storage.close()
