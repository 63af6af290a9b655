"""Tensors in storage: the header by ranged GET, tensors chosen by fragment."""

import asyncio
import re
from dataclasses import replace

from compute.loading import load
from compute.safetensors_header import Header, HeaderLimits, TensorEntry, header_length, parse_header
from compute.storage.store import Storage
from shared.errors import InputInvalid, InputMissing, TooLarge
from shared.uris import ALL_TENSORS, ObjectUri

__all__ = ["load", "read_header", "select"]

START_BYTES = 128 << 10
"""Read at once: the header of all but large weights, and small objects whole. A second request takes longer."""
INLINE_BYTES = 16 << 10
"""Of a header that is parsed at once, in a few milliseconds. What a stranger may send takes a tenth of a second, by
which nobody who waits for an answer is to be held up."""
IS_WEIGHTS = "isWeights"
"""In the header's metadata, `true` marks weights."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


async def read_header(storage: Storage, uri: ObjectUri, *, max_header_bytes: int, max_tensors: int) -> Header:
    """The object's header, by one request, or two where the header is long. See `parse_header` for errors."""
    limits = HeaderLimits(max_header_bytes, max_tensors)
    start = await storage.read_start(uri, START_BYTES)
    try:
        data = start.data
        needed = header_length(data, start.size, limits)
        if needed > len(data):
            data += await storage.read_range(uri, len(data), needed - len(data), start.version)
        if needed <= INLINE_BYTES:
            header = parse_header(data, start.size, limits)
        else:
            header = await asyncio.to_thread(parse_header, data, start.size, limits)
    except (InputInvalid, TooLarge) as exc:
        raise type(exc)(f"{uri}: {exc}") from exc
    return replace(header, version=start.version, origin=str(uri))


def select(header: Header, fragment: str | None) -> tuple[TensorEntry, ...]:
    """The tensors that a URI's fragment names: one by its name, the only one (None), or all by number (`*`)."""
    if fragment == ALL_TENSORS:
        return _all_by_number(header)
    if fragment is None:
        if len(header.entries) != 1:
            raise InputInvalid(
                f"{header.origin} holds {len(header.entries)} tensors, but the URI names none; add #name or #*"
            )
        return header.entries
    for entry in header.entries:
        if entry.name == fragment:
            return (entry,)
    raise InputMissing(f"{header.origin} holds no tensor named {fragment!a}")


def _all_by_number(header: Header) -> tuple[TensorEntry, ...]:
    for entry in header.entries:
        if not _NUMBER.fullmatch(entry.name):
            raise InputInvalid(
                f"#* needs names that are decimal integers; {header.origin} has {entry.name[:80]!a}"
            )
    return tuple(sorted(header.entries, key=lambda entry: int(entry.name)))
