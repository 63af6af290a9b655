"""Puts packages and tensors where a node finds them: `<prefix>/<requester>/`, each named by its SHA-256."""

import asyncio
import hashlib
from collections.abc import Sequence

import torch

from compute.outputs import Tensor, hashed_object
from compute.specs import DType, TensorSpec
from compute.storage.store import Storage
from compute.tensors import IS_WEIGHTS
from shared.ids import ModelId, Requester
from shared.uris import ALL_TENSORS, ObjectUri, TensorUri, below, parse_tensor_uri


async def publish_package(storage: Storage, prefix: ObjectUri, requester: Requester, package: bytes) -> ModelId:
    """Store one task graph's document; returns the modelId, which is the SHA-256 of its bytes."""
    digest = hashlib.sha256(package).hexdigest()
    await storage.put_new(below(prefix, requester, f"{digest}.json"), [package])
    return ModelId(digest)


async def publish_tensors(
    storage: Storage, prefix: ObjectUri, requester: Requester, tensors: Sequence[torch.Tensor], *, is_weights: bool
) -> str:
    """Store the tensors as one object, named `0`, `1`, …; returns the TensorUri that means all of them.

    A single tensor's URI has no fragment, that of several ends in `#*`. Raises InvalidUri if it would be too long.
    """
    metadata = {IS_WEIGHTS: "true"} if is_weights else None
    uri, parts = await asyncio.to_thread(
        lambda: hashed_object(below(prefix, requester), [_bytes_of(tensor) for tensor in tensors], metadata)
    )
    tensor_uri = TensorUri(uri, None if len(tensors) == 1 else ALL_TENSORS)
    parse_tensor_uri(str(tensor_uri))
    await storage.put_new(uri, parts)
    return str(tensor_uri)


def _bytes_of(tensor: torch.Tensor) -> Tensor:
    """The tensor's spec and its bytes, row by row. Tensors on a device are copied to the host."""
    spec = TensorSpec(DType(str(tensor.dtype).removeprefix("torch.")), tuple(tensor.shape))
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return spec, flat.view(torch.uint8).numpy().data
