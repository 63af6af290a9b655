"""An Anchor IDL in one shape, read from the layout of spec 0.1.0 or from the one before it.

Names become snake_case, discriminators are the IDL's where it states them, and types stand as the older layout
writes them, which is the one that the coder reads.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.idl_seeds import Seed, read_seeds
from shared.errors import IdlInvalid

SYSTEM_PROGRAM: Final = Pubkey.default()
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_RENAMED: Final = {"pubkey": "publicKey"}
_SIMPLE: Final = frozenset(
    {"bool", "u8", "i8", "u16", "i16", "u32", "i32", "f32", "u64", "i64", "f64", "u128", "i128"}
    | {"bytes", "string", "publicKey"}
)
"""What the coder reads; on another name it raises an error that cannot be imported."""
_MAX_ARRAY: Final = 2**32
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: object
    """As the older layout writes it: a name, or an object with vec, option, array or defined."""


@dataclass(frozen=True, slots=True)
class Struct:
    """An account or an event."""

    name: str
    discriminator: bytes
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class AccountMetaSpec:
    name: str
    is_writable: bool
    is_signer: bool
    address: Pubkey | None
    """Where the IDL fixes it."""
    seeds: tuple[Seed, ...] | None = None
    """Where the IDL states them."""


@dataclass(frozen=True, slots=True)
class InstructionSpec:
    name: str
    discriminator: bytes
    accounts: tuple[AccountMetaSpec, ...]
    args: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class TypeSpec:
    """A type that others name: a struct's fields, or an enum's variants (only those that hold nothing)."""

    name: str
    fields: tuple[Field, ...] = ()
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Idl:
    """All are found by `fold(name)`; `errors` by code, `constants` by their own name."""

    instructions: Mapping[str, InstructionSpec]
    accounts: Mapping[str, Struct]
    events: Mapping[str, Struct]
    types: Mapping[str, TypeSpec]
    errors: Mapping[int, str]
    constants: Mapping[str, str]


def snake(name: str) -> str:
    return _WORD_START.sub("_", name).lower()


def fold(name: str) -> str:
    """camelCase, snake_case and PascalCase alike."""
    return name.replace("_", "").lower()


def read_idl(document: object, wanted_instructions: frozenset[str], wanted_structs: frozenset[str]) -> Idl:
    """Read what is wanted (by folded names) and the types that it needs; the rest of the IDL may be anything.

    Raises IdlInvalid, which names the place.
    """
    root = _object(document, "the IDL")
    is_wanted = wanted_structs.__contains__
    type_entries = {fold(_name(entry)): entry for entry in _objects(root, "types")}
    accounts = _structs(root, "accounts", "account", type_entries, is_wanted)
    events = _structs(root, "events", "event", type_entries, is_wanted)
    listed = {fold(_name(entry)): entry for entry in _objects(root, "instructions")}
    instructions = {name: _instruction(listed[name]) for name in listed if name in wanted_instructions}
    used = [struct.fields for struct in (*accounts.values(), *events.values())]
    used += [instruction.args for instruction in instructions.values()]
    types: dict[str, TypeSpec] = {}
    for fields in used:
        _add_types(types, fields, type_entries)
    return Idl(instructions, accounts, events, types, _errors(root), _constants(root))


def _instruction(entry: Mapping[str, object]) -> InstructionSpec:
    name = snake(_name(entry))
    return InstructionSpec(
        name,
        _discriminator(entry, "global", name),
        tuple(_account_metas(entry, f"instruction {name}")),
        tuple(_field(arg) for arg in _objects(entry, "args")),
    )


def _account_metas(entry: Mapping[str, object], where: str) -> Iterator[AccountMetaSpec]:
    """Accounts in their order; groups are laid flat."""
    for account in _objects(entry, "accounts"):
        if "accounts" in account:
            yield from _account_metas(account, where)
            continue
        name, address = snake(_name(account)), account.get("address")
        yield AccountMetaSpec(
            name,
            account.get("writable", account.get("isMut", False)) is True,
            account.get("signer", account.get("isSigner", False)) is True,
            SYSTEM_PROGRAM if name == "system_program" else _address(address, f"{where}, account {name}"),
            read_seeds(account.get("pda")),
        )


def _address(value: object, where: str) -> Pubkey | None:
    if value is None:
        return None
    try:
        return Pubkey.from_string(str(value))
    except ValueError as error:
        raise IdlInvalid(f"{where}: {value!a} is no address") from error


def _structs(
    root: Mapping[str, object],
    place: str,
    kind: str,
    types: Mapping[str, Mapping[str, object]],
    is_wanted: Callable[[str], bool],
) -> dict[str, Struct]:
    """The older layout states fields with the account or event, the newer one among the types."""
    structs = {}
    for entry in _objects(root, place):
        name = _name(entry)
        if not is_wanted(fold(name)):
            continue
        if "fields" in entry:
            fields = tuple(_field(field) for field in _objects(entry, "fields"))
        else:
            described = entry if "type" in entry else types.get(fold(name))
            if described is None:
                raise IdlInvalid(f"the IDL names the {kind} {name}, but has no type of that name")
            fields = _type(described).fields
        structs[fold(name)] = Struct(name, _discriminator(entry, kind, name), fields)
    return structs


def _add_types(
    types: dict[str, TypeSpec],
    fields: tuple[Field, ...],
    entries: Mapping[str, Mapping[str, object]],
    depth: int = 0,
) -> None:
    if depth > _MAX_DEPTH:
        raise IdlInvalid("the IDL's types are nested too deeply")
    for field in fields:
        name = _defined(field.type)
        if name is None or fold(name) in types:
            continue
        if fold(name) not in entries:
            raise IdlInvalid(f"the field {field.name} is of the type {name}, which the IDL does not describe")
        spec = _type(entries[fold(name)])
        _add_types(types, spec.fields, entries, depth + 1)
        types[fold(name)] = spec


def _defined(kind: object) -> str | None:
    match kind:
        case {"defined": str(name)}:
            return name
        case {"vec": inner} | {"option": inner} | {"array": [inner, _]}:
            return _defined(inner)
        case _:
            return None


def _type(entry: Mapping[str, object]) -> TypeSpec:
    name = _name(entry)
    if entry.get("serialization", "borsh") != "borsh":
        raise IdlInvalid(f"the type {name} is not laid out by borsh")
    body = _object(entry.get("type"), f"the type {name}")
    match body.get("kind"):
        case "struct":
            return TypeSpec(name, fields=tuple(_field(field) for field in _objects(body, "fields")))
        case "enum":
            variants = _objects(body, "variants")
            if any(variant.get("fields") for variant in variants):
                raise IdlInvalid(f"the enum {name} has variants that hold fields, which the node does not read")
            return TypeSpec(name, variants=tuple(_name(variant) for variant in variants))
        case other:
            raise IdlInvalid(f"the type {name} is a {other!a:.40}, not a struct or an enum")


def _field(entry: Mapping[str, object]) -> Field:
    name = _name(entry)
    return Field(snake(name), _older_type(entry.get("type"), f"the field {name}"))


def _older_type(kind: object, where: str, depth: int = 0) -> object:
    if depth > _MAX_DEPTH:
        raise IdlInvalid(f"{where} has a type that is nested too deeply")
    match kind:
        case str(name) if (older := _RENAMED.get(name, name)) in _SIMPLE:
            return older
        case {"defined": {"name": str(name)}} | {"defined": str(name)}:
            return {"defined": name}
        case {"vec": inner}:
            return {"vec": _older_type(inner, where, depth + 1)}
        case {"option": inner}:
            return {"option": _older_type(inner, where, depth + 1)}
        case {"array": [inner, int(length)]} if 0 <= length <= _MAX_ARRAY:
            return {"array": [_older_type(inner, where, depth + 1), length]}
        case _:
            raise IdlInvalid(f"{where} has a type that the node does not read: {kind!a:.80}")


def _discriminator(entry: Mapping[str, object], kind: str, name: str) -> bytes:
    stated = entry.get("discriminator")
    if stated is None:
        return hashlib.sha256(f"{kind}:{name}".encode()).digest()[:8]
    if not isinstance(stated, list) or not stated or not all(isinstance(b, int) and 0 <= b < 256 for b in stated):
        raise IdlInvalid(f"the discriminator of {name} is not a list of bytes")
    return bytes(stated)


def _errors(root: Mapping[str, object]) -> dict[int, str]:
    return {code: _name(entry) for entry in _objects(root, "errors") if isinstance(code := entry.get("code"), int)}


def _constants(root: Mapping[str, object]) -> dict[str, str]:
    """Constants' values are Rust literals; a text's quotes are taken off."""
    return {_name(entry): str(entry.get("value", "")).strip('"') for entry in _objects(root, "constants")}


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise IdlInvalid(f"{where} is not a JSON object")
    return value


def _objects(parent: Mapping[str, object], place: str) -> list[Mapping[str, object]]:
    entries = parent.get(place) or []
    if not isinstance(entries, list):
        raise IdlInvalid(f"{place} is not a list")
    return [_object(entry, f"an entry of {place}") for entry in entries]


def _name(entry: Mapping[str, object]) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise IdlInvalid(f"an entry has no name: {str(dict(entry))[:80]!a}")
    return name
