"""What the allowlist says of one operator: its arguments, its result, and how cost, memory and order are counted."""

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
    FLOATS = "float[]"
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
    """Which formula of compute/graph/operations.py counts the floating-point operations."""

    MOVED = "moved"
    FUNCTIONS = "functions"
    LISTS = "lists"
    POWERS = "powers"
    REDUCED = "reduced"
    STATISTICS = "statistics"
    NORMALISED = "normalised"
    INDEXED = "indexed"
    TRIANGLE = "triangle"
    SORTED = "sorted"
    LINEAR = "linear"
    MATMUL = "matmul"
    ATTENTION = "attention"
    CONVOLUTION = "convolution"
    RESIZED = "resized"
    WINDOWS = "windows"
    RECURRENT = "recurrent"
    NOTHING = "nothing"


class Workspace(StrEnum):
    """Which bound of compute/graph/workspace.py holds for the memory beside inputs and outputs."""

    NONE = "none"
    CASTS = "casts"
    SUMS = "sums"
    COPY = "copy"
    COPIES = "copies"
    PRODUCT = "product"
    ATTENTION = "attention"
    CONVOLUTION = "convolution"
    RECURRENT = "recurrent"


class Additions(StrEnum):
    """What fixes the order in which a device adds, or picks among equals, and so the bytes of a result.

    On a CPU all of them give the same bytes for the same number of threads. With CUDA: FIXED by torch's kernel and
    the shapes; LIBRARY by the algorithm that cuBLAS or torch's attention chooses for the shapes, the same on the
    same device and versions; CUDNN by what cuDNN chooses for the shapes among its deterministic algorithms, which
    is all that the worker lets it; SCAN by how the blocks of a scan meet, so that floating-point results may
    differ in the last bits from run to run unless torch's deterministic algorithms are on; TIES: by the kernel,
    but for which of several equal elements it names.
    """

    FIXED = "fixed"
    LIBRARY = "library"
    CUDNN = "cudnn"
    SCAN = "scan"
    TIES = "ties"


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

    `fixed`: arguments that torch is always given and no document can name. `creates`: it makes a tensor out of
    nothing and is told the device to make it on.
    """

    name: str
    parameters: Mapping[str, Parameter]
    fixed: Mapping[str, bool | float]
    result: Result
    cost: Cost
    workspace: Workspace
    additions: Additions
    creates: bool = False
