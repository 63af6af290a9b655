"""JSON as strangers send it: each key once, whole or finite numbers, no depth that exhausts the stack."""

import json
import math
from collections import Counter
from typing import Any, NoReturn


class NotStrictJson(ValueError):
    """The bytes are not strict JSON; the message says what stands in the way, escaped and short."""


def parse_strict_json(data: bytes) -> object:
    """The value that `data` (UTF-8) holds.

    Raises NotStrictJson for bytes that are no UTF-8 or no JSON, for a key that stands twice in one object, for
    NaN, Infinity and numbers beyond a float's range, and for nesting that Python's parser gives up on.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except NotStrictJson:
        raise
    except RecursionError as exc:
        raise NotStrictJson("it is nested too deeply") from exc
    except ValueError as exc:
        raise NotStrictJson(str(exc)[:120].encode("ascii", "backslashreplace").decode()) from exc


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise NotStrictJson(f"the key {twice[:40]!a} stands twice in one object")
    return members


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotStrictJson(f"the number {text[:40]!a} is beyond a float's range")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise NotStrictJson(f"{text} is not a JSON number")
