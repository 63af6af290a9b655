"""The seeds of an account's address, as an IDL states them with an instruction's account (`pda`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seed:
    """`raw` where it is constant, else the argument or account that `path` names."""

    raw: bytes | None = None
    path: str = ""


def read_seeds(pda: object) -> tuple[Seed, ...] | None:
    """None where there are none, or one of them is more than a constant, an argument or an account's key."""
    match pda:
        case {"program": _} | {"programId": _}:  # an address of another program
            return None
        case {"seeds": [_, *_] as entries}:
            seeds = [_seed(entry) for entry in entries]
            known = tuple(seed for seed in seeds if seed is not None)
            return known if len(known) == len(seeds) else None
        case _:
            return None


def _seed(entry: object) -> Seed | None:
    match entry:
        case {"kind": "const", "value": str(text)}:
            return Seed(raw=text.encode())
        case {"kind": "const", "value": list(numbers)} if all(_is_byte(number) for number in numbers):
            return Seed(raw=bytes(numbers))
        case {"kind": "arg" | "account", "path": str(path)} if "." not in path:
            return Seed(path=path)
        case _:
            return None


def _is_byte(number: object) -> bool:
    return isinstance(number, int) and 0 <= number < 256
