"""The allowlist: every operator that a task graph may name, with its arguments and its cost formula.

The table is written in torch's own schema language (`number` for Scalar, `dtype` for ScalarType, `int` also for
SymInt, `size` for the lengths of a shape). An argument of torch's that is left out here cannot be given, so it
keeps torch's default: devices, layouts, random generators, dropout. None of these operators draws random numbers,
shows uninitialised memory, writes to its inputs or has a shape that depends on data.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an argument may hold."""

    TENSOR = "Tensor"
    TENSORS = "Tensor[]"
    INDICES = "Tensor?[]"
    INT = "int"
    INTS = "int[]"
    SIZE = "size[]"
    FLOAT = "float"
    NUMBER = "number"
    BOOL = "bool"
    DTYPE = "dtype"
    CHOICE = "str"


class Result(StrEnum):
    """What an operator gives: one tensor, several, or a whole number (a length)."""

    TENSOR = "Tensor"
    TENSORS = "Tensor[]"
    SIZE = "int"


class Cost(StrEnum):
    """Which formula of compute/graph/cost.py counts the floating-point operations."""

    MOVED = "moved"
    LINEAR = "linear"
    MATMUL = "matmul"
    ATTENTION = "attention"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operator. `choices` are the strings allowed where the kind is a string."""

    name: str
    kind: Kind
    nullable: bool
    required: bool
    choices: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Operator:
    """`name` as torch writes it, `aten.add.Tensor`; those of the format's own begin with `size.`.

    `creates`: it makes a tensor out of nothing and is told the device to make it on.
    """

    name: str
    parameters: Mapping[str, Parameter]
    result: Result
    cost: Cost
    creates: bool = False


_ATEN = {
    Cost.MOVED: """
        abs.default(Tensor self)
        neg.default(Tensor self)
        sign.default(Tensor self)
        ceil.default(Tensor self)
        floor.default(Tensor self)
        round.default(Tensor self)
        trunc.default(Tensor self)
        exp.default(Tensor self)
        expm1.default(Tensor self)
        log.default(Tensor self)
        log1p.default(Tensor self)
        log2.default(Tensor self)
        sqrt.default(Tensor self)
        rsqrt.default(Tensor self)
        reciprocal.default(Tensor self)
        sin.default(Tensor self)
        cos.default(Tensor self)
        tanh.default(Tensor self)
        erf.default(Tensor self)
        sigmoid.default(Tensor self)
        relu.default(Tensor self)
        leaky_relu.default(Tensor self, number negative_slope=)
        elu.default(Tensor self, number alpha=)
        gelu.default(Tensor self, *, str{none|tanh} approximate=)
        silu.default(Tensor self)
        softplus.default(Tensor self, number beta=, number threshold=)
        hardtanh.default(Tensor self, number min_val=, number max_val=)
        isnan.default(Tensor self)
        isinf.default(Tensor self)
        logical_not.default(Tensor self)
        bitwise_not.default(Tensor self)
        clamp.default(Tensor self, number? min=, number? max=)
        clamp_min.default(Tensor self, number min)
        clamp_max.default(Tensor self, number max)
        _to_copy.default(Tensor self, *, dtype dtype)

        add.Tensor(Tensor self, Tensor other, *, number alpha=)
        add.Scalar(Tensor self, number other, number alpha=)
        sub.Tensor(Tensor self, Tensor other, *, number alpha=)
        sub.Scalar(Tensor self, number other, number alpha=)
        rsub.Scalar(Tensor self, number other, number alpha=)
        mul.Tensor(Tensor self, Tensor other)
        mul.Scalar(Tensor self, number other)
        div.Tensor(Tensor self, Tensor other)
        div.Scalar(Tensor self, number other)
        pow.Tensor_Tensor(Tensor self, Tensor exponent)
        pow.Tensor_Scalar(Tensor self, number exponent)
        pow.Scalar(number self, Tensor exponent)
        maximum.default(Tensor self, Tensor other)
        minimum.default(Tensor self, Tensor other)
        eq.Tensor(Tensor self, Tensor other)
        eq.Scalar(Tensor self, number other)
        ne.Tensor(Tensor self, Tensor other)
        ne.Scalar(Tensor self, number other)
        lt.Tensor(Tensor self, Tensor other)
        lt.Scalar(Tensor self, number other)
        le.Tensor(Tensor self, Tensor other)
        le.Scalar(Tensor self, number other)
        gt.Tensor(Tensor self, Tensor other)
        gt.Scalar(Tensor self, number other)
        ge.Tensor(Tensor self, Tensor other)
        ge.Scalar(Tensor self, number other)
        logical_and.default(Tensor self, Tensor other)
        logical_or.default(Tensor self, Tensor other)
        logical_xor.default(Tensor self, Tensor other)
        bitwise_and.Tensor(Tensor self, Tensor other)
        bitwise_or.Tensor(Tensor self, Tensor other)
        bitwise_xor.Tensor(Tensor self, Tensor other)
        where.self(Tensor condition, Tensor self, Tensor other)
        masked_fill.Scalar(Tensor self, Tensor mask, number value)

        sum.default(Tensor self, *, dtype? dtype=)
        sum.dim_IntList(Tensor self, int[]? dim, bool keepdim=, *, dtype? dtype=)
        mean.default(Tensor self, *, dtype? dtype=)
        mean.dim(Tensor self, int[]? dim, bool keepdim=, *, dtype? dtype=)
        amax.default(Tensor self, int[] dim=, bool keepdim=)
        amin.default(Tensor self, int[] dim=, bool keepdim=)
        argmax.default(Tensor self, int? dim=, bool keepdim=)
        argmin.default(Tensor self, int? dim=, bool keepdim=)
        any.default(Tensor self)
        any.dim(Tensor self, int dim, bool keepdim=)
        all.default(Tensor self)
        all.dim(Tensor self, int dim, bool keepdim=)
        var.correction(Tensor self, int[]? dim=, *, number? correction=, bool keepdim=)
        logsumexp.default(Tensor self, int[] dim, bool keepdim=)
        linalg_vector_norm.default(Tensor self, number ord=, int[]? dim=, bool keepdim=, *, dtype? dtype=)
        cumsum.default(Tensor self, int dim, *, dtype? dtype=)
        topk.default(Tensor self, int k, int dim=, bool largest=, bool sorted=) -> Tensor[]
        max.dim(Tensor self, int dim, bool keepdim=) -> Tensor[]
        min.dim(Tensor self, int dim, bool keepdim=) -> Tensor[]

        softmax.int(Tensor self, int dim, dtype? dtype=)
        log_softmax.int(Tensor self, int dim, dtype? dtype=)
        layer_norm.default(Tensor input, size[] normalized_shape, Tensor? weight=, Tensor? bias=, float eps=)
        rms_norm.default(Tensor input, size[] normalized_shape, Tensor? weight=, float? eps=)
        group_norm.default(Tensor input, int num_groups, Tensor? weight=, Tensor? bias=, float eps=)

        reshape.default(Tensor self, size[] shape)
        transpose.int(Tensor self, int dim0, int dim1)
        permute.default(Tensor self, int[] dims)
        unsqueeze.default(Tensor self, int dim)
        squeeze.dim(Tensor self, int dim)
        squeeze.dims(Tensor self, int[] dim)
        expand.default(Tensor self, size[] size)
        repeat.default(Tensor self, size[] repeats)
        flip.default(Tensor self, int[] dims)
        cat.default(Tensor[] tensors, int dim=)
        stack.default(Tensor[] tensors, int dim=)
        split.Tensor(Tensor self, int split_size, int dim=) -> Tensor[]
        split_with_sizes.default(Tensor self, size[] split_sizes, int dim=) -> Tensor[]
        chunk.default(Tensor self, int chunks, int dim=) -> Tensor[]
        unbind.int(Tensor self, int dim=) -> Tensor[]
        slice.Tensor(Tensor self, int dim=, int? start=, int? end=, int step=)
        select.int(Tensor self, int dim, int index)
        tril.default(Tensor self, int diagonal=)
        triu.default(Tensor self, int diagonal=)
        constant_pad_nd.default(Tensor self, int[] pad, number value=)
        embedding.default(Tensor weight, Tensor indices)
        gather.default(Tensor self, int dim, Tensor index)
        index_select.default(Tensor self, int dim, Tensor index)
        index.Tensor(Tensor self, Tensor?[] indices)

        full_like.default(Tensor self, number fill_value, *, dtype? dtype=)
        new_ones.default(Tensor self, size[] size, *, dtype? dtype=)
        new_zeros.default(Tensor self, size[] size, *, dtype? dtype=)
        new_full.default(Tensor self, size[] size, number fill_value, *, dtype? dtype=)
        arange.default(number end, *, dtype? dtype=) creates
        arange.start(number start, number end, *, dtype? dtype=) creates
        arange.start_step(number start, number end, number step=, *, dtype? dtype=) creates
        full.default(size[] size, number fill_value, *, dtype? dtype=) creates
        ones.default(size[] size, *, dtype? dtype=) creates
        zeros.default(size[] size, *, dtype? dtype=) creates
        scalar_tensor.default(number s, *, dtype? dtype=) creates
    """,
    Cost.MATMUL: """
        matmul.default(Tensor self, Tensor other)
        mm.default(Tensor self, Tensor mat2)
        bmm.default(Tensor self, Tensor mat2)
        addmm.default(Tensor self, Tensor mat1, Tensor mat2, *, number beta=, number alpha=)
        baddbmm.default(Tensor self, Tensor batch1, Tensor batch2, *, number beta=, number alpha=)
    """,
    Cost.LINEAR: """
        linear.default(Tensor input, Tensor weight, Tensor? bias=)
    """,
    Cost.ATTENTION: """
        scaled_dot_product_attention.default(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=, bool is_causal=, *, float? scale=, bool enable_gqa=)
    """,  # noqa: E501 one operator, one line
}

_SIZES = """
    of(Tensor self, int dim) -> int
    add(int a, int b) -> int
    sub(int a, int b) -> int
    mul(int a, int b) -> int
    floordiv(int a, int b) -> int
    mod(int a, int b) -> int
"""

_LINE = re.compile(r"(?P<name>[\w.]+)\((?P<parameters>.*)\)(?: -> (?P<result>\S+))?(?P<creates> creates)?")
_PARAMETER = re.compile(
    r"(?P<kind>Tensor\?\[\]|\w+(?:\[\])?)(?:\{(?P<choices>[\w|]+)\})?(?P<nullable>\?)?"
    r" (?P<name>\w+)(?P<optional>=)?"
)


def _parameter(text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    assert match is not None, text
    return Parameter(
        name=match["name"],
        kind=Kind(match["kind"]),
        nullable=match["nullable"] is not None,
        required=match["optional"] is None,
        choices=frozenset(match["choices"].split("|")) if match["choices"] else frozenset(),
    )


def _operator(line: str, namespace: str, cost: Cost) -> Operator:
    match = _LINE.fullmatch(line)
    assert match is not None, line
    parameters = [_parameter(text) for text in match["parameters"].split(", ") if text != "*"]
    return Operator(
        name=f"{namespace}.{match['name']}",
        parameters={parameter.name: parameter for parameter in parameters},
        result=Result(match["result"] or Result.TENSOR),
        cost=cost,
        creates=match["creates"] is not None,
    )


def _table(text: str, namespace: str, cost: Cost) -> dict[str, Operator]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    operators = [_operator(line, namespace, cost) for line in lines]
    return {operator.name: operator for operator in operators}


OPERATORS: Mapping[str, Operator] = {
    name: operator for cost, text in _ATEN.items() for name, operator in _table(text, "aten", cost).items()
} | _table(_SIZES, "size", Cost.NOTHING)
"""By name. Operators whose name begins with `aten.` are torch's, those with `size.` compute lengths."""
