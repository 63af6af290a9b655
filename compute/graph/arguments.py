"""One argument of a node: from JSON to a typed value and back, by the parameter's kind."""

import math
from collections.abc import Callable, Mapping

from compute.graph.operator import Kind, Parameter, Result
from compute.graph.task_graph import Argument, Ref
from compute.specs import DType
from shared.errors import GraphInvalid

MAX_LIST = 1024
"""Most elements of one list among the arguments: tensors of a concatenation, lengths of a shape."""
MAX_ITEMS = 4096
"""Most tensors that one node may give."""
INT64 = range(-(2**63), 2**63)

Scope = Mapping[str, Result]
"""What the inputs and the nodes so far give, by name."""

_INFINITIES = {"inf": math.inf, "-inf": -math.inf}


def parse_argument(value: object, parameter: Parameter, scope: Scope) -> Argument:
    """`value` as the parameter's kind wants it. Raises GraphInvalid, which says what was wanted."""
    if value is None and parameter.nullable:
        return None
    return _PARSERS[parameter.kind](value, parameter, scope)


def argument_to_json(value: Argument) -> object:
    """The inverse of parse_argument."""
    if isinstance(value, Ref):
        return ref_to_json(value)
    if isinstance(value, tuple):
        return [argument_to_json(element) for element in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def parse_ref(value: object, scope: Scope, wanted: Result) -> Ref:
    """`{"ref": name}` or `{"ref": name, "item": i}`; `wanted` is what it must refer to.

    Raises GraphInvalid for a name that no input or earlier node has, and for one of the wrong sort.
    """
    if not isinstance(value, dict) or not {"ref"} <= value.keys() <= {"ref", "item"}:
        raise GraphInvalid(f'{_wanted(wanted)} is wanted, {{"ref": name}}, not {shown(value)}')
    name, item = value["ref"], value.get("item")
    if not isinstance(name, str) or name not in scope:
        raise GraphInvalid(f"the reference {shown(name)} names no input and no earlier node")
    if "item" in value and not (type(item) is int and 0 <= item < MAX_ITEMS):
        raise GraphInvalid(f"the item {shown(item)} of {name} is not a whole number from 0 to {MAX_ITEMS - 1}")
    given = scope[name]
    if (item is not None) != (given is Result.TENSORS):
        rule = "needs an item" if given is Result.TENSORS else "takes no item"
        raise GraphInvalid(f"the reference {name} {rule}: it gives {_wanted(given)}")
    if (Result.TENSOR if given is Result.TENSORS else given) is not wanted:
        raise GraphInvalid(f"{_wanted(wanted)} is wanted, but {name} gives {_wanted(given)}")
    return Ref(name, item)


def ref_to_json(ref: Ref) -> dict[str, object]:
    return {"ref": ref.name} if ref.item is None else {"ref": ref.name, "item": ref.item}


def shown(value: object) -> str:
    """A stranger's value for a message: escaped and short."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _wanted(result: Result) -> str:
    return {Result.TENSOR: "a tensor", Result.TENSORS: "a list of tensors", Result.SIZE: "a size"}[result]


def _tensor(value: object, _: Parameter, scope: Scope) -> Argument:
    return parse_ref(value, scope, Result.TENSOR)


def _is_size_ref(value: object) -> bool:
    return isinstance(value, dict)


def _int(value: object, _: Parameter, scope: Scope) -> Argument:
    if _is_size_ref(value):
        return parse_ref(value, scope, Result.SIZE)
    if type(value) is not int or value not in INT64:
        raise GraphInvalid(f"a whole number of 64 bits is wanted, not {shown(value)}")
    return value


def _float(value: object, _: Parameter, __: Scope) -> Argument:
    if isinstance(value, str) and value in _INFINITIES:
        return _INFINITIES[value]
    if type(value) is int and value in INT64:
        return float(value)
    if type(value) is not float:
        raise GraphInvalid(f"a number is wanted, not {shown(value)}")
    return value


def _number(value: object, parameter: Parameter, scope: Scope) -> Argument:
    if type(value) is bool:
        return value
    if type(value) is int or _is_size_ref(value):
        return _int(value, parameter, scope)
    return _float(value, parameter, scope)


def _floats(value: object, parameter: Parameter, scope: Scope) -> Argument:
    return _list(value, lambda element: _float(element, parameter, scope))


def _bool(value: object, _: Parameter, __: Scope) -> Argument:
    if type(value) is not bool:
        raise GraphInvalid(f"true or false is wanted, not {shown(value)}")
    return value


def _dtype(value: object, _: Parameter, __: Scope) -> Argument:
    return parse_dtype(value)


def parse_dtype(value: object) -> DType:
    """Raises GraphInvalid, which lists the dtypes that there are."""
    if not isinstance(value, str) or value not in DType.__members__.values():
        raise GraphInvalid(f"{shown(value)} is no dtype; there are {', '.join(DType)}")
    return DType(value)


def _choice(value: object, parameter: Parameter, _: Scope) -> Argument:
    if not isinstance(value, str) or value not in parameter.choices:
        raise GraphInvalid(f"one of {', '.join(sorted(parameter.choices))} is wanted, not {shown(value)}")
    return value


def _list(value: object, one: Callable[[object], Argument]) -> Argument:
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise GraphInvalid(f"a list of at most {MAX_LIST} elements is wanted, not {shown(value)}")
    return tuple(one(element) for element in value)


def _tensors(value: object, parameter: Parameter, scope: Scope) -> Argument:
    return _list(value, lambda element: _tensor(element, parameter, scope))


def _indices(value: object, parameter: Parameter, scope: Scope) -> Argument:
    return _list(value, lambda element: None if element is None else _tensor(element, parameter, scope))


def _ints(value: object, parameter: Parameter, scope: Scope) -> Argument:
    return _list(value, lambda element: _int(element, parameter, scope))


_PARSERS: dict[Kind, Callable[[object, Parameter, Scope], Argument]] = {
    Kind.TENSOR: _tensor,
    Kind.TENSORS: _tensors,
    Kind.INDICES: _indices,
    Kind.INT: _int,
    Kind.INTS: _ints,
    Kind.SIZE: _ints,
    Kind.FLOAT: _float,
    Kind.FLOATS: _floats,
    Kind.NUMBER: _number,
    Kind.BOOL: _bool,
    Kind.DTYPE: _dtype,
    Kind.CHOICE: _choice,
}
