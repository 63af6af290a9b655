"""Weights that the whole service keeps in memory: shared by those who may read them, and by nobody else."""

import asyncio
import hashlib
import os
import struct
import time
from pathlib import Path

import pytest

from compute.admission import Refused
from compute.safetensors_header import encode_header
from compute.weights.preload import Preload
from shared.clock import SystemClock
from shared.messages import Stage
from shared.uris import parse_tensor_uri
from tests.unit.service_world import OTHER_REQUESTER, REQUESTER, SPEC, World, world
from tests.written import wait_until_settled, write_settled


def put_weights(w: World, folder: str, *values: float, name: str | None = None) -> str:
    """The URI of a new object; without a name, it is named by its hash."""
    data = encode_header([("0", SPEC)], {"isWeights": "true"}) + struct.pack("<2f", *values)
    path = w.folder / "tensors" / folder / (name or f"{hashlib.sha256(data).hexdigest()}.safetensors")
    path.parent.mkdir(exist_ok=True)
    write_settled(path, data)
    return f"file://{path}"


async def computed(w: World, uri: str, requester: str = REQUESTER):
    """The reason of its failure, or the two numbers that its input was: the test's worker gives them back."""
    request = w.request(input_uris=[uri], requester=requester)
    await w.service.submit(request)
    status = await w.end(request.key)
    if status.stage is Stage.FAILED:
        return status.reason
    (output,) = status.result.output_uris
    return struct.unpack("<2f", _path(output).read_bytes()[-8:])


async def test_two_requesters_share_public_weights(tmp_path):
    async with world(tmp_path) as w:
        uri = put_weights(w, "public", 1, 2)
        assert await computed(w, uri, REQUESTER) == (1, 2)
        assert await computed(w, uri, OTHER_REQUESTER) == (1, 2)
        assert str(w.weights).startswith("1 held")
        first, second = w.pool.weights_given
        assert len(first) == 1
        assert first == second  # what a device may keep is the one buffer that both were given


async def test_what_is_no_weights_is_given_to_the_worker_as_what_does_not_stay(tmp_path):
    async with world(tmp_path) as w:
        assert await computed(w, w.uri) == (1, 2)
        assert w.pool.weights_given == [frozenset()]


async def test_the_uri_of_anothers_folder_is_refused_though_its_weights_lie_in_memory(tmp_path):
    async with world(tmp_path) as w:
        uri = put_weights(w, REQUESTER, 1, 2)
        assert await computed(w, uri) == (1, 2)
        request = w.request(input_uris=[uri], requester=OTHER_REQUESTER)
        with pytest.raises(Refused, match="may not read"):
            await w.service.submit(request)


async def test_an_own_object_under_the_name_of_anothers_weights_gives_none_of_their_bytes(tmp_path):
    async with world(tmp_path) as w:
        secret = put_weights(w, REQUESTER, 1, 2)
        assert await computed(w, secret) == (1, 2)
        # The same name, the same header, and as far as a header goes the same object: only its bytes are unknown.
        pretended = put_weights(w, OTHER_REQUESTER, 0, 0, name=Path(secret).name)
        assert await computed(w, pretended, OTHER_REQUESTER) == "InputInvalid"
        assert await computed(w, secret) == (1, 2)


async def test_weights_that_change_under_their_uri_are_never_stale(tmp_path):
    async with world(tmp_path) as w:
        uri = put_weights(w, "public", 1, 2, name="w.safetensors")
        assert await computed(w, uri) == (1, 2)
        put_weights(w, "public", 3, 4, name="w.safetensors")
        assert await computed(w, uri) == (3, 4)
        assert str(w.weights).startswith("1 held")


async def test_weights_that_are_gone_from_storage_are_missing_though_they_lie_in_memory(tmp_path):
    async with world(tmp_path) as w:
        uri = put_weights(w, "public", 1, 2)
        assert await computed(w, uri) == (1, 2)
        _path(uri).unlink()
        assert await computed(w, uri) == "InputMissing"


async def test_what_is_preloaded_is_in_memory_and_what_cannot_be_is_told(tmp_path):
    async with world(tmp_path) as w:
        good, plain = put_weights(w, "public", 1, 2), w.tensor_of("public")
        wait_until_settled(_path(plain))
        missing = f"file://{tmp_path}/tensors/public/missing"
        settings = w.settings.model_copy(update={"preload": _parsed(good, plain, missing)})
        preload = Preload(settings, w.storage, w.loader, w.weights, SystemClock())
        assert len(preload.waiting) == 3
        await asyncio.wait_for(preload.run(), 10)
        assert not preload.waiting
        assert len(preload.failures) == 2
        assert plain in preload.failures[0] and "not marked as weights" in preload.failures[0]
        assert missing in preload.failures[1]
        assert str(w.weights).startswith("1 held")
        assert await computed(w, good) == (1, 2)


async def test_a_file_that_was_written_just_now_is_preloaded_later(tmp_path):
    async with world(tmp_path) as w:
        uri = put_weights(w, "public", 1, 2)
        in_an_hour = time.time() + 3600
        os.utime(_path(uri), (in_an_hour, in_an_hour))
        settings = w.settings.model_copy(update={"preload": _parsed(uri)})
        preload = Preload(settings, w.storage, w.loader, w.weights, SystemClock())
        await preload._try(preload.waiting[0])
        assert (len(preload.waiting), preload.failures) == (1, [])
        write_settled(_path(uri), _path(uri).read_bytes())
        await asyncio.wait_for(preload.run(), 10)
        assert (preload.waiting, preload.failures) == ([], [])
        assert str(w.weights).startswith("1 held")


async def test_what_is_larger_than_the_budget_is_told_and_not_preloaded(tmp_path):
    async with world(tmp_path, weights_cache_bytes=32) as w:
        settings = w.settings.model_copy(update={"preload": _parsed(put_weights(w, "public", 1, 2))})
        preload = Preload(settings, w.storage, w.loader, w.weights, SystemClock())
        await asyncio.wait_for(preload.run(), 10)
        assert "has 64 bytes, for which SPLITUP_WEIGHTS_CACHE_BYTES has no room" in preload.failures[0]


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def _parsed(*uris: str):
    return tuple(map(parse_tensor_uri, uris))
