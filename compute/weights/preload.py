"""Weights that the operator wants in memory before the first task asks for them."""

import logging

from compute.input_loader import InputLoader
from compute.inputs import selected
from compute.settings import ComputeSettings
from compute.storage.store import Storage, is_weak
from compute.tensors import read_header
from compute.weights.cache import WeightsCache
from shared.clock import Clock
from shared.errors import InputInvalid, StorageUnavailable, TaskError, TooLarge
from shared.logs import fields
from shared.uris import TensorUri

log = logging.getLogger(__name__)

RETRY_S = 2.0
"""Storage that does not answer at the start is asked again."""


class Preload:
    """Run `run` beside the service; `waiting` and `failures` tell how far it is."""

    def __init__(
        self, settings: ComputeSettings, storage: Storage, loader: InputLoader, weights: WeightsCache, clock: Clock
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._loader = loader
        self.weights = weights
        self._clock = clock
        self.waiting = list(settings.preload)
        """What was not tried to its end yet."""
        self.failures: list[str] = []
        """What will not be in memory, and why."""

    async def run(self) -> None:
        """Returns when each was loaded or cannot be."""
        while self.waiting:
            for uri in list(self.waiting):
                await self._try(uri)
            if self.waiting:
                await self._clock.sleep(RETRY_S)

    async def _try(self, uri: TensorUri) -> None:
        try:
            await self._load(uri)
        except StorageUnavailable as exc:
            log.warning("weights are not preloaded yet", extra=fields(uri=str(uri), why=str(exc)))
            return
        except TaskError as exc:
            log.error("weights cannot be preloaded", extra=fields(uri=str(uri), why=str(exc)))
            self.failures.append(str(exc))
        self.waiting.remove(uri)

    async def _load(self, uri: TensorUri) -> None:
        header = await read_header(
            self._storage,
            uri.object,
            max_header_bytes=self._settings.max_header_bytes,
            max_tensors=self._settings.max_object_tensors,
        )
        if uri.object.scheme == "file" and is_weak(header.version or ""):
            raise StorageUnavailable(f"{uri} was changed a moment ago, and may change again unseen")
        given = selected(uri, header)
        if given.weights is None:
            raise InputInvalid(f"{uri} is not marked as weights, or its storage gives no strong ETag")
        async with self._loader.loaded([given], [], 0, None):
            if not self.weights.holds(given.weights):
                raise TooLarge(
                    f"{uri} has {given.buffer_bytes} bytes, for which SPLITUP_WEIGHTS_CACHE_BYTES has no room"
                )
