"""Tensors from storage to torch, as a node reads them: header checked, hash verified."""

import torch

from compute.graph.steps import TORCH_DTYPES
from compute.safetensors_header import DEFAULT_LIMITS, TensorEntry
from compute.storage.store import Storage
from compute.tensors import load, read_header, select
from shared.uris import TensorUri


async def fetch_tensors(storage: Storage, uri: TensorUri) -> list[torch.Tensor]:
    """The tensors that the URI names, in its order.

    Raises InputMissing, InputInvalid, TooLarge and StorageUnavailable.
    """
    header = await read_header(
        storage,
        uri.object,
        max_header_bytes=DEFAULT_LIMITS.max_header_bytes,
        max_tensors=DEFAULT_LIMITS.max_tensors,
    )
    entries = select(header, uri.fragment)
    tensors = [_empty(entry) for entry in entries]
    await load(storage, uri.object, header, entries, [_bytes_of(tensor) for tensor in tensors])
    return tensors


def _empty(entry: TensorEntry) -> torch.Tensor:
    return torch.empty(entry.spec.shape, dtype=TORCH_DTYPES[entry.spec.dtype])


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    raw: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return raw
