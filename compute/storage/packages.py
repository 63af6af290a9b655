"""Where a model package is found: by its hash, in the operator's stores, then beside the requester's tensors."""

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from compute.storage.access import PUBLIC
from compute.storage.store import Storage
from shared.errors import InputInvalid, InputMissing, StorageUnavailable
from shared.ids import ModelId, Requester
from shared.logs import fields
from shared.uris import ObjectUri, below

log = logging.getLogger(__name__)

READS = 2
"""A bit may turn on the way: what does not have its hash is read once more."""
KEPT_BYTES = 32 << 20
"""Of packages, for all requesters together; those that were asked for the longest time ago go first."""
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Packages:
    """Of all tasks. What a requester's task was given is kept for that requester's next ones: its hash is its name."""

    def __init__(
        self,
        storage: Storage,
        *,
        model_stores: Sequence[ObjectUri],
        allowed_prefixes: Sequence[ObjectUri],
        catalogue: Mapping[str, str],
        max_bytes: int,
    ) -> None:
        self._storage = storage
        self._model_stores = model_stores
        self._allowed_prefixes = allowed_prefixes
        self._catalogue = catalogue
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[Requester, str], bytes] = OrderedDict()
        self._kept_bytes = 0

    async def find(self, model_id: ModelId, requester: Requester) -> bytes:
        """The package's bytes, whose SHA-256 is the model's hash.

        An object at its place that is too large or has another hash is skipped and logged. Raises InputMissing, which
        says where was looked, or StorageUnavailable if a place that did not answer may hold it.
        """
        wanted = _hash_of(model_id, self._catalogue)
        kept = self._kept.get((requester, wanted))
        if kept is not None:
            self._kept.move_to_end((requester, wanted))
            return kept
        found = await self._search(model_id, wanted, requester)
        self._keep((requester, wanted), found)
        return found

    async def _search(self, model_id: ModelId, wanted: str, requester: Requester) -> bytes:
        folders = (below(prefix, folder) for prefix in self._allowed_prefixes for folder in (requester, PUBLIC))
        looked: list[str] = []
        silent: StorageUnavailable | None = None
        for place in (*self._model_stores, *folders):
            uri = below(place, f"{wanted}.json")
            try:
                return await _read_package(self._storage, uri, wanted, self._max_bytes)
            except InputMissing:
                looked.append(str(uri))
            except InputInvalid as exc:
                looked.append(f"{uri} (skipped)")
                log.warning("a package was skipped", extra=fields(uri=str(uri), why=str(exc)))
            except StorageUnavailable as exc:
                silent = exc
        if silent is not None:
            raise silent
        raise InputMissing(f"the package of model {model_id} is in none of: {', '.join(looked)}")

    def _keep(self, name: tuple[Requester, str], package: bytes) -> None:
        self._kept_bytes += len(package) - len(self._kept.get(name, b""))
        self._kept[name] = package
        while self._kept_bytes > KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)


def _hash_of(model_id: ModelId, catalogue: Mapping[str, str]) -> str:
    wanted = model_id if _HASH.fullmatch(model_id) else catalogue.get(model_id)
    if wanted is None:
        raise InputMissing(
            f"model {model_id} is neither a SHA-256 (64 lower-case hex digits) nor in this node's catalogue"
        )
    return wanted


async def _read_package(storage: Storage, uri: ObjectUri, wanted: str, max_bytes: int) -> bytes:
    found = ""
    for _ in range(READS):
        start = await storage.read_start(uri, max_bytes)
        if start.size > max_bytes:
            raise InputInvalid(f"{uri} has {start.size} bytes; a package may have at most {max_bytes}")
        found = hashlib.sha256(start.data).hexdigest()
        if found == wanted:
            return start.data
    raise InputInvalid(f"{uri} has the SHA-256 {found}")
