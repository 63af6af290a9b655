"""A task's inputs: which tensors of which object, how much that is, and their bytes into memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from compute.loading import beside_bytes, load
from compute.safetensors_header import Header, TensorEntry
from compute.shared_memory import SharedBuffer, layout, tensor_views
from compute.specs import TensorSpec
from compute.storage.groups import one_error_group
from compute.storage.store import Storage
from compute.tensors import select
from compute.weights.key import WeightsKey, weights_key
from shared.errors import InputInvalid, InputMissing
from shared.uris import ObjectUri, TensorUri


@dataclass(frozen=True, slots=True)
class Input:
    """The tensors of one TensorUri, in their order."""

    uri: ObjectUri
    header: Header
    entries: tuple[TensorEntry, ...]
    weights: WeightsKey | None
    """Under which they may stay in memory; None for what is no weights."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        return tuple(entry.spec for entry in self.entries)

    @property
    def buffer_bytes(self) -> int:
        """Of the buffer that holds them."""
        return layout(self.specs)[1]


def selected(uri: TensorUri, header: Header) -> Input:
    """What the URI names of an object with this header. Raises InputInvalid and InputMissing."""
    try:
        entries = select(header, uri.fragment)
    except (InputInvalid, InputMissing) as exc:
        raise type(exc)(f"{uri}: {exc}") from exc
    return Input(uri.object, header, entries, weights_key(uri.object, header, entries))


def input_bytes(inputs: Sequence[Input]) -> int:
    """Bytes that are held or read: an object that is read whole counts at least with all that it has."""
    sizes: Counter[ObjectUri] = Counter()
    for given in inputs:
        sizes[given.uri] += sum(spec.nbytes for spec in given.specs)
    whole = {given.uri: given.header.object_size for given in inputs if given.uri.content_hash is not None}
    return sum(max(size, whole.get(uri, 0)) for uri, size in sizes.items())


def loading_bytes(inputs: Sequence[Input]) -> int:
    """What `load_inputs` takes at once, at most, besides the buffers."""
    wanted: dict[ObjectUri, tuple[Header, list[TensorEntry]]] = {}
    for given in inputs:
        wanted.setdefault(given.uri, (given.header, []))[1].extend(given.entries)
    return sum(beside_bytes(uri, header, entries) for uri, (header, entries) in wanted.items())


async def load_inputs(storage: Storage, inputs: Sequence[Input], buffers: Sequence[SharedBuffer]) -> None:
    """Fill each buffer, by object: it is read once, however many URIs lead into it."""
    wanted: dict[ObjectUri, tuple[Header, list[TensorEntry], list[memoryview]]] = {}
    for given, buffer in zip(inputs, buffers, strict=True):
        _, entries, views = wanted.setdefault(given.uri, (given.header, [], []))
        entries += given.entries
        views += tensor_views(buffer.view, given.specs)
    async with one_error_group() as group:
        for uri, (header, entries, views) in wanted.items():
            group.create_task(load(storage, uri, header, entries, views))
