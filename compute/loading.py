"""Tensors' bytes from storage into given buffers: few requests, at most one copy, hashes verified."""

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest

from compute.safetensors_header import Header, TensorEntry
from compute.specs import DType
from compute.storage.groups import one_error_group
from compute.storage.store import Storage
from compute.storage.threads import CHUNK_BYTES, Stop, in_thread
from shared.errors import InputInvalid
from shared.uris import ObjectUri

HASHED_AT_ONCE_BYTES = 32 << 20
"""A large tensor that is verified is read in steps of this size, so that one is hashed while others are read."""
DIRECT_BYTES = 1 << 20
"""Tensors from this size are read straight into their buffers; smaller neighbours share a request."""
BESIDE_BYTES = 16 << 20
"""Of a step that is read into memory of its own: small neighbours, which are copied out of it, and what is only
hashed."""
PARALLEL_RUNS = 2
READ_AHEAD = 3
"""Steps in memory at once, of which one is hashed."""
INLINE_BYTES = 64 << 10
"""So little is hashed faster than a thread takes it over."""

_NOT_A_BOOL = re.compile(rb"[^\x00\x01]")


async def load(
    storage: Storage, uri: ObjectUri, header: Header, entries: Sequence[TensorEntry], views: Sequence[memoryview]
) -> None:
    """Fill each view (writable bytes, exactly as long) with its tensor, read once however often it is asked for.

    An object whose name commits to a hash is read whole, and what was loaded must not be used if this raises
    InputInvalid. Bool tensors must hold 0 and 1 only.
    """
    if [entry.end - entry.begin for entry in entries] != [len(view) for view in views]:
        raise ValueError("each view must be as long as its tensor")
    wanted: dict[TensorEntry, memoryview] = {}
    again: list[tuple[TensorEntry, memoryview]] = []
    for entry, view in zip(entries, views, strict=True):
        if wanted.setdefault(entry, view) is not view:
            again.append((entry, view))
    if uri.content_hash is None:
        await _load_runs(storage, uri, header, _runs_of(uri, header, wanted))
    else:
        await _load_verified(storage, uri, header, wanted, uri.content_hash)
    await _check_bools(uri, wanted)
    for entry, view in again:
        await _copy(wanted[entry], view)


def beside_bytes(uri: ObjectUri, header: Header, entries: Sequence[TensorEntry]) -> int:
    """What `load` takes at once, at most, besides the views that it is given."""
    somewhere = dict.fromkeys(entries, memoryview(b""))
    runs = _runs_of(uri, header, somewhere)
    sizes = [run.end - run.begin for run in runs if run.direct is None and not _is_here(header, run)]
    return sum(nlargest(PARALLEL_RUNS if uri.content_hash is None else READ_AHEAD, sizes))


@dataclass(frozen=True, slots=True)
class _Run:
    """Bytes that are read in one step: `pieces` in their order, None where nobody wants them but the hash."""

    begin: int
    end: int
    pieces: tuple[tuple[int, memoryview | None], ...]
    """Length of each piece and where it goes."""

    @property
    def direct(self) -> memoryview | None:
        """Where all of it goes; None: it is read into memory of its own."""
        return self.pieces[0][1] if len(self.pieces) == 1 else None


def _is_here(header: Header, run: _Run) -> bool:
    """All of it came with the header."""
    return header.data_start + run.end <= len(header.start)


def _runs_of(uri: ObjectUri, header: Header, wanted: Mapping[TensorEntry, memoryview]) -> Iterator[_Run]:
    """The steps in which an object is read: all of it where its name commits to a hash."""
    if uri.content_hash is None:
        return _runs(wanted.items())
    return _runs(((entry, wanted.get(entry)) for entry in header.entries), HASHED_AT_ONCE_BYTES)


def _runs(
    tensors: Iterable[tuple[TensorEntry, memoryview | None]], most_bytes: int | None = None
) -> Iterator[_Run]:
    """Join small neighbours, and cut what is larger than `most_bytes`, where given. Expects no order; gives the order
    of the bytes."""
    small: list[tuple[TensorEntry, memoryview | None]] = []
    for entry, view in sorted(tensors, key=lambda pair: (pair[0].begin, pair[0].end)):
        if small and not _joins(small, entry):
            yield _joined(small)
            small = []
        if entry.end - entry.begin < DIRECT_BYTES:
            small.append((entry, view))
        else:
            yield from _cut(entry, view, most_bytes)
    if small:
        yield _joined(small)


def _joins(small: Sequence[tuple[TensorEntry, memoryview | None]], entry: TensorEntry) -> bool:
    begin, end = small[0][0].begin, small[-1][0].end
    fits = entry.end - entry.begin < DIRECT_BYTES and entry.end - begin <= BESIDE_BYTES
    return entry.begin == end and fits


def _joined(small: Sequence[tuple[TensorEntry, memoryview | None]]) -> _Run:
    pieces = tuple((entry.end - entry.begin, view) for entry, view in small)
    return _Run(small[0][0].begin, small[-1][0].end, pieces)


def _cut(entry: TensorEntry, view: memoryview | None, most_bytes: int | None) -> Iterator[_Run]:
    step = BESIDE_BYTES if view is None else most_bytes or entry.end - entry.begin
    for begin in range(entry.begin, entry.end, step):
        end = min(begin + step, entry.end)
        piece = None if view is None else view[begin - entry.begin : end - entry.begin]
        yield _Run(begin, end, ((end - begin, piece),))


async def _read_run(storage: Storage, uri: ObjectUri, header: Header, run: _Run) -> memoryview:
    """Read what the header did not come with, into the view where the run has one of its own; returns its bytes."""
    first, last = header.data_start + run.begin, header.data_start + run.end
    begun = memoryview(header.start)[first:last]
    direct = run.direct
    if direct is None and _is_here(header, run):
        data = begun
    else:
        data = direct if direct is not None else memoryview(bytearray(last - first))
        data[: len(begun)] = begun
        if len(begun) < len(data):
            await storage.read_into(uri, first + len(begun), data[len(begun) :], header.version)
    if direct is not None:
        return data
    offset = 0
    for length, view in run.pieces:
        if view is not None:
            view[:] = data[offset : offset + length]
        offset += length
    return data


async def _load_runs(storage: Storage, uri: ObjectUri, header: Header, runs: Iterable[_Run]) -> None:
    places = asyncio.Semaphore(PARALLEL_RUNS)

    async def step(run: _Run) -> None:
        async with places:
            await _read_run(storage, uri, header, run)

    async with one_error_group() as group:
        for run in runs:
            group.create_task(step(run))


async def _load_verified(
    storage: Storage, uri: ObjectUri, header: Header, wanted: Mapping[TensorEntry, memoryview], expected: str
) -> None:
    # The header's bytes are those that were parsed: what was checked is what is hashed.
    parsed = header.start[: header.data_start]
    found = await _read_and_hashed(storage, uri, header, wanted)
    if found != expected:
        # A bit may have turned on the way: storage is asked for all of it once more.
        again = await storage.read_range(uri, 0, header.data_start, header.version)
        if again == parsed:
            found = await _read_and_hashed(storage, uri, replace(header, start=again), wanted)
    if found != expected:
        raise InputInvalid(f"{uri} has the SHA-256 {found}, which is not the one in its name")


async def _read_and_hashed(
    storage: Storage, uri: ObjectUri, header: Header, wanted: Mapping[TensorEntry, memoryview]
) -> str:
    """Fill the views; the SHA-256 of all bytes, in hex. Bytes that the header came with are not asked for again."""
    digest = hashlib.sha256(header.start[: header.data_start])
    reading: deque[asyncio.Task[memoryview]] = deque()
    async with one_error_group() as group:
        for run in _runs_of(uri, header, wanted):
            reading.append(group.create_task(_read_run(storage, uri, header, run)))
            if len(reading) == READ_AHEAD:
                await _in_chunks(await reading.popleft(), digest.update)
        for last in reading:
            await _in_chunks(await last, digest.update)
    return digest.hexdigest()


async def _check_bools(uri: ObjectUri, wanted: Mapping[TensorEntry, memoryview]) -> None:
    def check(chunk: memoryview) -> None:
        if _NOT_A_BOOL.search(chunk):
            raise InputInvalid(f"{uri} has a tensor of dtype BOOL with bytes other than 0 and 1")

    for entry, view in wanted.items():
        if entry.spec.dtype is DType.BOOL:
            await _in_chunks(view, check)


async def _copy(source: memoryview, target: memoryview) -> None:
    done = 0

    def take(chunk: memoryview) -> None:
        nonlocal done
        target[done : done + len(chunk)] = chunk
        done += len(chunk)

    await _in_chunks(source, take)


async def _in_chunks(data: memoryview, use: Callable[[memoryview], None]) -> None:
    """Give `data` to `use`, chunk by chunk, in a thread that stops when this task is cancelled."""

    def work(stop: Stop) -> None:
        for begin in range(0, len(data), CHUNK_BYTES):
            with stop.touching():
                use(data[begin : begin + CHUNK_BYTES])

    if len(data) <= INLINE_BYTES:
        use(data)
    else:
        await in_thread(None, work)
