"""The safetensors header, read strictly and written deterministically. Bytes only: no storage, no torch.

Eight bytes give the header's length (little-endian), the header is a JSON object, the tensors' bytes follow.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compute.specs import DTYPE_BY_SAFETENSORS_NAME, MAX_DIMENSIONS, MAX_ELEMENTS, TensorSpec
from compute.strict_json import NotStrictJson, parse_strict_json
from shared.errors import InputInvalid, TooLarge

LENGTH_BYTES = 8
ALIGNMENT = 8
"""The header is padded with spaces so that the tensors' bytes begin at a multiple of this."""
MAX_OFFSET = 2**63 - 1
METADATA = "__metadata__"
_ENTRY_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    max_header_bytes: int = 1 << 20
    max_tensors: int = 4096


DEFAULT_LIMITS = HeaderLimits()


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of an object. `begin` and `end` count from the first byte behind the header."""

    name: str
    spec: TensorSpec
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    entries: tuple[TensorEntry, ...]
    """In the order of their bytes, which lie side by side without holes."""
    metadata: Mapping[str, str]
    data_start: int
    """Offset of the first tensor byte in the object."""
    object_size: int
    start: bytes = field(repr=False)
    """The object's first bytes as they were read: the header and perhaps some of what follows."""
    version: str | None = None
    """The validator of the object that this was read from; later reads are held to it."""
    origin: str = "the object"
    """Where it was read, for messages."""


def header_length(data: bytes, object_size: int, limits: HeaderLimits) -> int:
    """Bytes of length field and header together, checked against the limit and the object's size."""
    if object_size < LENGTH_BYTES or len(data) < LENGTH_BYTES:
        raise InputInvalid(f"the object has {object_size} bytes: too few for a safetensors header")
    length: int = struct.unpack_from("<Q", data)[0]
    if length > limits.max_header_bytes:
        raise TooLarge(f"the header has {length} bytes; at most {limits.max_header_bytes} are read")
    if LENGTH_BYTES + length > object_size:
        raise InputInvalid(f"the header claims {length} bytes, but the whole object has only {object_size}")
    return LENGTH_BYTES + length


def parse_header(data: bytes, object_size: int, limits: HeaderLimits = DEFAULT_LIMITS) -> Header:
    """Parse the header at the beginning of `data`; `object_size` is the whole object's length in bytes.

    Refuses with InputInvalid what is not well formed (duplicate keys, NaN, floats, unknown dtypes, overlaps,
    holes, wrong lengths) and with TooLarge what is above a limit. Nothing of the tensors' bytes is looked at.
    """
    data_start = header_length(data, object_size, limits)
    if len(data) < data_start:
        raise InputInvalid(f"the header has {data_start} bytes, of which only {len(data)} were read")
    document = _document(data[LENGTH_BYTES:data_start])
    metadata = _metadata(document.pop(METADATA, {}))
    if len(document) > limits.max_tensors:
        raise TooLarge(f"the object holds {len(document)} tensors; at most {limits.max_tensors} are allowed")
    entries = sorted((_entry(name, value) for name, value in document.items()), key=lambda e: (e.begin, e.end))
    _check_side_by_side(entries, object_size - data_start)
    return Header(tuple(entries), metadata, data_start, object_size, data)


def encode_header(tensors: Sequence[tuple[str, TensorSpec]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Length field and header for tensors whose bytes follow in this order; always the same bytes for them."""
    document: dict[str, object] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name, spec in tensors:
        document[name] = {
            "dtype": spec.dtype.safetensors_name,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.nbytes],
        }
        offset += spec.nbytes
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _document(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{") or not raw.rstrip(b" ").endswith(b"}"):
        raise InputInvalid("the header is not one JSON object, padded with spaces at most")
    try:
        document = parse_strict_json(raw)
    except NotStrictJson as exc:
        raise InputInvalid(f"the header is not valid JSON: {exc}") from exc
    assert isinstance(document, dict)
    return document


def _metadata(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InputInvalid(f"the header's {METADATA} is not an object of strings")
    return value


def _entry(name: str, value: object) -> TensorEntry:
    shown = _shown(name)
    if not name.isprintable():
        raise InputInvalid(f"tensor {shown} has a name with characters that cannot be printed")
    if not isinstance(value, dict) or value.keys() != _ENTRY_FIELDS:
        raise InputInvalid(f"tensor {shown} must have exactly the fields dtype, shape and data_offsets")
    spec = TensorSpec(_dtype(shown, value["dtype"]), _shape(shown, value["shape"]))
    begin, end = _offsets(shown, value["data_offsets"])
    if end - begin != spec.nbytes:
        raise InputInvalid(f"tensor {shown} has {end - begin} bytes, but {spec} takes {spec.nbytes}")
    return TensorEntry(name, spec, begin, end)


def _dtype(shown: str, value: object) -> Any:
    if not isinstance(value, str) or value not in DTYPE_BY_SAFETENSORS_NAME:
        known = " ".join(DTYPE_BY_SAFETENSORS_NAME)
        raise InputInvalid(f"tensor {shown} has the dtype {_shown(value)}; allowed are {known}")
    return DTYPE_BY_SAFETENSORS_NAME[value]


def _shape(shown: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(length) is int and length >= 0 for length in value):
        raise InputInvalid(f"tensor {shown} has a shape that is not a list of whole numbers from 0")
    if len(value) > MAX_DIMENSIONS:
        raise TooLarge(f"tensor {shown} has {len(value)} dimensions; at most {MAX_DIMENSIONS} are allowed")
    elements = 1
    for length in value:
        # Zeros are left out, so that a length of 2^63 beside a zero is refused as well.
        elements *= max(length, 1)
        if elements > MAX_ELEMENTS:
            raise TooLarge(f"tensor {shown} has a shape of 2^40 elements or more")
    return tuple(value)


def _offsets(shown: str, value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(offset) is int for offset in value):
        raise InputInvalid(f"tensor {shown} has data_offsets that are not two whole numbers")
    begin, end = value
    if not 0 <= begin <= end <= MAX_OFFSET:
        raise InputInvalid(f"tensor {shown} has data_offsets that run backwards or lie beyond any object")
    return begin, end


def _check_side_by_side(entries: Sequence[TensorEntry], data_bytes: int) -> None:
    offset = 0
    for entry in entries:
        if entry.begin != offset:
            what = "overlaps the one before" if entry.begin < offset else "leaves a hole before it"
            raise InputInvalid(f"tensor {_shown(entry.name)} {what}: it begins at {entry.begin}, not at {offset}")
        offset = entry.end
    if offset != data_bytes:
        raise InputInvalid(f"the tensors take {offset} bytes, but {data_bytes} follow the header")


def _shown(value: object) -> str:
    return ascii(value)[:80]
