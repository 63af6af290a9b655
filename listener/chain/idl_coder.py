"""The IDL's types as bytes. The only file that imports anchorpy, and only for its coder.

What is decoded here came from a stranger, so each value is encoded again and must give the same bytes, which leaves
no room for trailing bytes or second spellings.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from anchorpy.coder.types import TypesCoder
from anchorpy_core.idl import Idl as CoderIdl
from construct import ConstructError

from listener.chain.idl_layout import Field, Idl, InstructionSpec, Struct, fold
from listener.chain.idl_offsets import fixed_size
from shared.errors import IdlInvalid

MAX_VALUE_BYTES: Final = 16 * 1024
"""An assignment fits into a transaction; far longer values would hold up the process while they are decoded."""
HEAD: Final = "head:"
"""The kind of an execution account's fixed head. No type of an IDL has a colon in its name."""

_NOT_CODABLE: Final = (ConstructError, LookupError, ValueError, TypeError, AttributeError)
"""What the coder raises on bytes or values that are not of the type."""


class Coder:
    """A kind is what `account_kind`, `event_kind` or `args_kind` names, or HEAD."""

    def __init__(self, idl: Idl, head: tuple[Field, ...]) -> None:
        """Raises IdlInvalid where a type cannot be read."""
        self._kinds: dict[str, tuple[Field, ...]] = {
            account_kind(one): one.fields for one in idl.accounts.values()
        }
        self._kinds |= {event_kind(one): one.fields for one in idl.events.values()}
        self._kinds |= {args_kind(one): one.args for one in idl.instructions.values()}
        self._kinds[HEAD] = head
        self._variants = {name: one.variants for name, one in idl.types.items() if one.variants}
        _refuse_empty_entries(idl, self._kinds.values())
        try:
            self._coder = TypesCoder(CoderIdl.from_json(json.dumps(_document(idl, self._kinds))))
            for kind in self._kinds:
                self._build(kind)
        except _NOT_CODABLE as error:
            raise IdlInvalid(f"the IDL has a type that the coder does not read: {error}") from error

    def _build(self, kind: str) -> None:
        """The coder reads a type when it is first used: use it now, not when a stranger's bytes arrive."""
        try:
            self._coder.decode(kind, b"")
        except ConstructError:
            return

    def encode(self, kind: str, values: Mapping[str, object]) -> bytes:
        """Raises ValueError where a value is missing or does not fit its type."""
        try:
            named = {_coder_name(at): values[field.name] for at, field in enumerate(self._kinds[kind])}
            return bytes(self._coder.encode(kind, named))
        except _NOT_CODABLE as error:
            raise ValueError(self._told(kind, error)) from error

    def decode(self, kind: str, raw: bytes) -> dict[str, object]:
        """Values by the fields' names, lists as tuples, a variant of an enum as its name.

        Raises ValueError where `raw` is not exactly one value of the kind.
        """
        if len(raw) > MAX_VALUE_BYTES:
            raise ValueError(f"{len(raw)} bytes are more than the {MAX_VALUE_BYTES} that the node decodes")
        try:
            decoded = vars(self._coder.decode(kind, raw))
            again = self._coder.encode(kind, decoded)
        except _NOT_CODABLE as error:
            raise ValueError(self._told(kind, error)) from error
        if again != raw:
            raise ValueError(f"{len(raw)} bytes are not one value of {kind}")
        fields = enumerate(self._kinds[kind])
        return {field.name: self._plain(field.type, decoded[_coder_name(at)]) for at, field in fields}

    def _plain(self, kind: object, value: object) -> object:
        match kind, value:
            case {"defined": str(name)}, int(index):
                variants = self._variants[fold(name)]
                if index >= len(variants):
                    raise ValueError(f"{name} has no variant {index}")
                return variants[index]
            case _, list():
                return tuple(value)
            case _:
                return value

    def _told(self, kind: str, error: Exception) -> str:
        """What went wrong, with the field's own name."""
        fields = self._kinds[kind]
        told = re.sub(r"(?<=-> f)[0-9]+", lambda found: f":{fields[int(found[0])].name}", str(error), count=1)
        return f"{type(error).__name__}: {told.replace('-> f:', '-> ')[:200]}"


def account_kind(struct: Struct) -> str:
    return f"account:{struct.name}"


def event_kind(struct: Struct) -> str:
    return f"event:{struct.name}"


def args_kind(spec: InstructionSpec) -> str:
    return f"args:{spec.name}"


def _coder_name(at: int) -> str:
    """What the coder calls a field: it would change a name such as `from` or `_reserved`, and then not find it."""
    return f"f{at}"


def _document(idl: Idl, kinds: Mapping[str, tuple[Field, ...]]) -> dict[str, object]:
    """An IDL of structs alone, in the older layout: every kind, and every struct that one of them names."""
    structs = [*kinds.items(), *((one.name, one.fields) for one in idl.types.values() if not one.variants)]
    types = [
        {"name": name, "type": {"kind": "struct", "fields": _listed(fields, idl)}} for name, fields in structs
    ]
    return {"version": "0.0.0", "name": "program", "instructions": [], "types": types}


def _listed(fields: Sequence[Field], idl: Idl) -> list[dict[str, object]]:
    return [{"name": _coder_name(at), "type": _coder_type(field.type, idl)} for at, field in enumerate(fields)]


def _coder_type(kind: object, idl: Idl) -> object:
    """Enums as the byte that they are, since the coder's own need what newer versions of attrs do without."""
    match kind:
        case {"defined": str(name)}:
            spec = idl.types[fold(name)]
            return "u8" if spec.variants else {"defined": spec.name}
        case {"array": [inner, length]}:
            return {"array": [_coder_type(inner, idl), length]}
        case {"vec": inner}:
            return {"vec": _coder_type(inner, idl)}
        case {"option": inner}:
            return {"option": _coder_type(inner, idl)}
        case _:
            return kind


def _refuse_empty_entries(idl: Idl, kinds: Iterable[tuple[Field, ...]]) -> None:
    """A list whose entries take no bytes would let four bytes stand for four billion entries."""
    structs = [*kinds, *(one.fields for one in idl.types.values())]
    for field in (field for fields in structs for field in fields):
        kind = field.type
        while isinstance(kind, dict) and "defined" not in kind:
            kind = kind.get("vec") or kind.get("option") or kind["array"][0]
            if fixed_size(kind, idl) == 0:
                raise IdlInvalid(f"the field {field.name} is a list whose entries take no bytes")
