"""The one seam to storage: whole objects, read by ranges and written once.

Implementations raise only InputMissing (not there, after a short retry), StorageUnavailable (no usable answer,
after retries) and InputInvalid (there, but shorter than asked for, or changed while it was read). Cancelling the
awaiting task ends the transfer; once the await has returned or raised, the caller's buffers are not touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.uris import ObjectUri

WEAK = "W/"
"""In front of a validator that is weak: equal ones do not promise equal bytes."""


def is_weak(version: str) -> bool:
    return version.startswith(WEAK)


@dataclass(frozen=True, slots=True)
class ObjectStart:
    """The first bytes of an object, with what one answer tells of the rest."""

    data: bytes
    size: int
    """Bytes of the whole object."""
    version: str
    """A validator of the content (an ETag, or a file's); later reads can be held to it. It may be weak."""


class UploadBook(Protocol):
    """Where uploads in parts are written down, so that none is left over: parts that nobody joins cost money."""

    async def begin_upload(self, uri: ObjectUri, upload_id: str) -> None:
        """Returns once it is certain to be known after a crash; before that no part is sent."""
        ...

    async def end_upload(self, uri: ObjectUri, upload_id: str) -> None:
        """Its object is complete, or it was aborted."""
        ...


class _NoBook:
    async def begin_upload(self, uri: ObjectUri, upload_id: str) -> None:
        pass

    async def end_upload(self, uri: ObjectUri, upload_id: str) -> None:
        pass


NO_BOOK: UploadBook = _NoBook()
"""Of whoever is at hand to see it through."""


class Storage(Protocol):
    async def read_start(self, uri: ObjectUri, length: int) -> ObjectStart:
        """The first `length` bytes, or all of a shorter object, in one request."""
        ...

    async def read_range(self, uri: ObjectUri, start: int, length: int, version: str | None = None) -> bytes:
        """Exactly `length` bytes from `start`, of that version of the object where one is given."""
        ...

    async def read_into(self, uri: ObjectUri, start: int, view: memoryview, version: str | None = None) -> None:
        """Fill `view` (bytes, writable) from `start`. Large views are read by several requests at once."""
        ...

    async def put_new(
        self, uri: ObjectUri, parts: Sequence[bytes | memoryview], book: UploadBook = NO_BOOK
    ) -> bool:
        """Store `parts`, one after the other, as a new object: whole or not at all. Large ones may be sent in pieces.

        True: created by this call. False: an object was there already and stays as it is. After an answer was
        lost on the way, False is also said of what this call itself may have created.
        """
        ...

    async def abort_upload(self, uri: ObjectUri, upload_id: str) -> None:
        """End an upload that was written down. No error if there is none. One attempt, as of `delete`."""
        ...

    async def delete(self, uri: ObjectUri) -> None:
        """Remove the object. No error if there is none. One attempt of seconds: who cleans up comes again."""
        ...

    async def probe(self) -> None:
        """One round trip to each place that is configured. Raises StorageUnavailable, without retries."""
        ...

    def close(self) -> None:
        """Let go of threads and connections; transfers that still run are cut."""
        ...
