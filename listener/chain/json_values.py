"""JSON that a stranger sent, read strictly: what is missing or of another kind is RpcInvalid, never KeyError."""

import base64
import binascii
from typing import Final

from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain import base58
from shared.errors import RpcInvalid
from shared.ids import Slot

_END: Final = 2**63
"""Slots, heights and lamports stay far below; SQLite holds no more."""
_MAX_BASE58: Final = 14_000
"""Characters; an inner instruction has at most 10 KiB of data."""


def invalid(what: str, wanted: str, value: object) -> RpcInvalid:
    shown = f"{value!a:.80}" if isinstance(value, str | int | float | None) else type(value).__name__
    return RpcInvalid(f"{what} should be {wanted}, not {shown}")


def member(value: object, name: str, what: str) -> object:
    """The member `name` of a JSON object; None where it is absent."""
    if not isinstance(value, dict):
        raise invalid(what, "an object", value)
    return value.get(name)


def stated(value: object, name: str, what: str) -> object:
    """The same of a member whose null means something: where it is absent, that is no answer."""
    found = member(value, name, what)
    if found is None and isinstance(value, dict) and name not in value:
        raise RpcInvalid(f"{what} has no {name}")
    return found


def integer(value: object, what: str, end: int = _END) -> int:
    """A JSON integer from 0 to below `end`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < end:
        raise invalid(what, f"an integer from 0 to {end - 1}", value)
    return value


def text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise invalid(what, "a string", value)
    return value


def sequence(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise invalid(what, "a list", value)
    return value


def slot(value: object, what: str) -> Slot:
    return Slot(integer(value, what))


def pubkey(value: object, what: str) -> Pubkey:
    try:
        return Pubkey.from_string(text(value, what))
    except ValueError as error:
        raise invalid(what, "a public key in base58", value) from error


def signature(value: object, what: str) -> Signature:
    try:
        return Signature.from_string(text(value, what))
    except ValueError as error:
        raise invalid(what, "a signature in base58", value) from error


def base64_bytes(value: object, what: str) -> bytes:
    """What `["…", "base64"]` holds."""
    if not isinstance(value, list) or len(value) != 2 or value[1] != "base64":
        raise invalid(what, 'a pair of text and "base64"', value)
    try:
        return base64.b64decode(text(value[0], what), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(what, "base64", value) from error


def block_hash(value: object, what: str) -> Hash:
    try:
        return Hash.from_string(text(value, what))
    except (ParseHashError, ValueError) as error:
        raise invalid(what, "32 bytes in base58", value) from error


def base58_bytes(value: object, what: str) -> bytes:
    """At most what an instruction holds: decoding takes the square of the length."""
    try:
        encoded = text(value, what)
        if len(encoded) > _MAX_BASE58:
            raise ValueError
        return base58.decode(encoded)
    except ValueError as error:
        raise invalid(what, "base58", value) from error


def context_slot(value: object, what: str) -> Slot:
    return slot(member(member(value, "context", what), "slot", what), f"{what}: context.slot")


def log_lines(value: object, what: str) -> tuple[str, ...]:
    """The lines of a log; none where the provider keeps none."""
    return () if value is None else tuple(text(line, what) for line in sequence(value, what))
