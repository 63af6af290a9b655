"""Which fields of an account lie at offsets that are the same in every account."""

from typing import Final

from listener.chain.idl_layout import Field, Idl, Struct, fold

_FIXED_SIZES: Final = {
    **dict.fromkeys(("bool", "u8", "i8"), 1),
    **dict.fromkeys(("u16", "i16"), 2),
    **dict.fromkeys(("u32", "i32", "f32"), 4),
    **dict.fromkeys(("u64", "i64", "f64"), 8),
    **dict.fromkeys(("u128", "i128"), 16),
    "publicKey": 32,
}


def fixed_fields(struct: Struct, idl: Idl) -> tuple[Field, ...]:
    """The fields before the first one of variable length."""
    fixed: list[Field] = []
    for field in struct.fields:
        if fixed_size(field.type, idl) is None:
            break
        fixed.append(field)
    return tuple(fixed)


def fixed_size(kind: object, idl: Idl) -> int | None:
    """Bytes that every value of the type takes, or None where values differ."""
    match kind:
        case str(name):
            return _FIXED_SIZES.get(name)
        case {"array": [inner, int(length)]}:
            size = fixed_size(inner, idl)
            return None if size is None else size * length
        case {"defined": str(name)}:
            spec = idl.types[fold(name)]
            if spec.variants:
                return 1
            sizes = [fixed_size(field.type, idl) for field in spec.fields]
            return None if None in sizes else sum(size or 0 for size in sizes)
        case _:
            return None
