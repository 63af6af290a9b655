"""The allowlist, read from its table: every operator that a task graph may name, by name."""

import json
import re
from collections.abc import Mapping

from compute.graph.operator import Additions, Cost, Kind, Operator, Parameter, Result, Workspace
from compute.graph.operator_table import GROUPS, SIZES

_LINE = re.compile(r"(?P<name>[\w.]+)\((?P<parameters>.*)\)(?: -> (?P<result>\S+))?(?P<creates> creates)?")
_PARAMETER = re.compile(
    r"(?P<kind>Tensor\?\[\]|\w+(?:\[\])?)(?:\{(?P<choices>[\w|]+)\})?(?P<nullable>\?)?"
    r" (?P<name>\w+)(?:(?P<optional>=)|:=(?P<fixed>\S+))?"
)


def _match(text: str) -> re.Match[str]:
    match = _PARAMETER.fullmatch(text)
    assert match is not None, text
    return match


def _parameter(match: re.Match[str]) -> Parameter:
    return Parameter(
        name=match["name"],
        kind=Kind(match["kind"]),
        nullable=match["nullable"] is not None,
        required=match["optional"] is None,
        choices=frozenset(match["choices"].split("|")) if match["choices"] else frozenset(),
    )


def _operator(line: str, namespace: str, cost: Cost, workspace: Workspace, additions: Additions) -> Operator:
    match = _LINE.fullmatch(line)
    assert match is not None, line
    given = [_match(text) for text in match["parameters"].split(", ") if text != "*"]
    return Operator(
        name=f"{namespace}.{match['name']}",
        parameters={each["name"]: _parameter(each) for each in given if each["fixed"] is None},
        fixed={each["name"]: json.loads(each["fixed"]) for each in given if each["fixed"] is not None},
        result=Result(match["result"] or Result.TENSOR),
        cost=cost,
        workspace=workspace,
        additions=additions,
        creates=match["creates"] is not None,
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


OPERATORS: Mapping[str, Operator] = {
    operator.name: operator
    for operator in (
        *(
            _operator(line, "aten", cost, workspace, additions)
            for cost, workspace, additions, text in GROUPS
            for line in _lines(text)
        ),
        *(_operator(line, "size", Cost.NOTHING, Workspace.NONE, Additions.FIXED) for line in _lines(SIZES)),
    )
}
"""Operators whose name begins with `aten.` are torch's, those with `size.` compute lengths."""
