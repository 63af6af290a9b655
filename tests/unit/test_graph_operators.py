import re
from pathlib import Path

import pytest
import torch

from compute.graph.operator import Kind, Operator, Result
from compute.graph.operators import OPERATORS

TORCH_OPERATORS = [operator for operator in OPERATORS.values() if operator.name.startswith("aten.")]
TORCH_TYPES = {
    "Tensor": Kind.TENSOR,
    "List[Tensor]": Kind.TENSORS,
    "List[Optional[Tensor]]": Kind.INDICES,
    "int": Kind.INT,
    "SymInt": Kind.INT,
    "List[int]": Kind.INTS,
    "List[SymInt]": Kind.SIZE,
    "List[float]": Kind.FLOATS,
    "float": Kind.FLOAT,
    "number": Kind.NUMBER,
    "bool": Kind.BOOL,
    "ScalarType": Kind.DTYPE,
    "str": Kind.CHOICE,
}
INT_LISTS = {Kind.INTS, Kind.SIZE}


def overload(operator: Operator) -> torch._ops.OpOverload:
    _, packet, name = operator.name.split(".")
    return getattr(getattr(torch.ops.aten, packet), name)


def by_name(operator: Operator) -> str:
    return operator.name


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=by_name)
def test_an_operators_arguments_are_torchs(operator: Operator) -> None:
    arguments = {argument.name: argument for argument in overload(operator)._schema.arguments}
    assert operator.parameters.keys() | operator.fixed.keys() <= arguments.keys()
    for name, argument in arguments.items():
        parameter = operator.parameters.get(name)
        if parameter is None:
            assert argument.has_default_value() or name in operator.fixed, f"torch needs {name}"
            continue
        kind, nullable = str(argument.real_type), False
        if kind.startswith("Optional["):
            kind, nullable = kind.removeprefix("Optional[").removesuffix("]"), True
        kinds = {TORCH_TYPES[kind]}
        assert parameter.kind in (INT_LISTS if kinds & INT_LISTS else kinds)
        assert nullable or not parameter.nullable
        assert parameter.required or argument.has_default_value()


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=by_name)
def test_an_operators_results_are_tensors_as_the_table_says(operator: Operator) -> None:
    returns = overload(operator)._schema.returns
    single = len(returns) == 1 and str(returns[0].type) == "Tensor"
    assert operator.result is (Result.TENSOR if single else Result.TENSORS)
    assert all(str(each.type) in ("Tensor", "List[Tensor]") for each in returns)


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=by_name)
def test_no_operator_writes_draws_or_has_a_shape_that_depends_on_data(operator: Operator) -> None:
    found = overload(operator)
    assert not found._schema.is_mutable
    tags = {str(tag).removeprefix("Tag.") for tag in found.tags}
    # index: a mask as index is refused (compute/graph/refusals.py). Attention draws only in its dropout, which
    # cannot be given, an LSTM only in training, which is fixed to be off. A batch norm writes only in training.
    excused = {
        "aten.lstm.input": {"nondeterministic_seeded"},
        "aten.batch_norm.default": {"maybe_aliasing_or_mutating"},
        "aten.index.Tensor": {"dynamic_output_shape"},
        "aten.scaled_dot_product_attention.default": {"nondeterministic_seeded"},
    }
    forbidden = {"nondeterministic_seeded", "dynamic_output_shape", "data_dependent_output", "inplace_view"}
    forbidden |= {"maybe_aliasing_or_mutating"}
    assert not (tags & forbidden) - excused.get(operator.name, set())
    assert "dropout_p" not in operator.parameters


def test_what_would_train_or_draw_is_fixed_to_be_off() -> None:
    assert OPERATORS["aten.lstm.input"].fixed == {"dropout": 0.0, "train": False}
    assert OPERATORS["aten.batch_norm.default"].fixed["training"] is False


def test_a_device_is_told_to_exactly_those_that_make_a_tensor_from_nothing() -> None:
    for operator in TORCH_OPERATORS:
        arguments = [str(argument.real_type) for argument in overload(operator)._schema.arguments]
        from_nothing = not any("Tensor" in kind for kind in arguments)
        assert operator.creates == from_nothing, operator.name


def test_the_document_lists_exactly_the_operators_that_there_are() -> None:
    text = (Path(__file__).parents[2] / "docs" / "task-graph.md").read_text()
    section = text.split("## Operators", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^\| `([\w.]+)` \| (.*) \| (.*) \| (\w+) \| (\w+) \|$", section, re.MULTILINE)
    assert [row[0] for row in listed] == list(OPERATORS)
    assert [" | ".join(row) for row in listed] == [row_text(operator) for operator in OPERATORS.values()]


def row_text(operator: Operator) -> str:
    name, arguments = operator.name, arguments_text(operator)
    return f"{name} | {arguments} | {operator.result} | {operator.workspace} | {operator.additions}"


def arguments_text(operator: Operator) -> str:
    """The arguments as the document writes them; an optional one stands in brackets."""
    texts = []
    for parameter in operator.parameters.values():
        kind = " or ".join(f"`{choice}`" for choice in sorted(parameter.choices)) or str(parameter.kind)
        text = f"{parameter.name}: {kind}{' or null' if parameter.nullable else ''}"
        texts.append(text if parameter.required else f"[{text}]")
    return ", ".join(texts)


if __name__ == "__main__":
    # The table for docs/task-graph.md.
    for each in OPERATORS.values():
        print("| `" + row_text(each).replace(" |", "` |", 1) + " |")
