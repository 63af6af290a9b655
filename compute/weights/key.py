"""What makes weights in memory the same as those in storage."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from compute.safetensors_header import Header, TensorEntry
from compute.shared_memory import layout
from compute.storage.store import is_weak
from compute.tensors import IS_WEIGHTS
from shared.uris import ObjectUri


@dataclass(frozen=True, slots=True)
class WeightsKey:
    """Tensors of one version of one object.

    The URI is part of it even where the object's name commits to a hash: whoever may read one URI may not read
    another, though both promise the same bytes.
    """

    uri: ObjectUri
    version: str
    """The storage's validator of the whole object."""
    header: bytes
    """SHA-256 of the header's bytes, which say what lies where."""
    names: tuple[str, ...]
    size: int
    """Bytes of the buffer that holds these tensors, laid out by `layout`."""


def weights_key(uri: ObjectUri, header: Header, entries: Sequence[TensorEntry]) -> WeightsKey | None:
    """None for what is no weights, is empty, or comes from a storage whose validator promises no equal bytes."""
    size = layout([entry.spec for entry in entries])[1]
    version = header.version
    if header.metadata.get(IS_WEIGHTS) != "true" or not size or not version or is_weak(version):
        return None
    parsed = hashlib.sha256(header.start[: header.data_start]).digest()
    return WeightsKey(uri, version, parsed, tuple(entry.name for entry in entries), size)
