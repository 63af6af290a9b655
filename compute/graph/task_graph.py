"""A task graph in memory: typed inputs, nodes of allowlisted operators, outputs. Values only, no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compute.graph.operator import Operator
from compute.specs import DType


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an input or an earlier node; `item` picks one where a node gives several tensors."""

    name: str
    item: int | None = None


Argument = None | bool | int | float | str | DType | Ref | tuple["Argument", ...]


@dataclass(frozen=True, slots=True)
class GraphInput:
    """`shape`: whole numbers, or names of symbolic dimensions that have one length throughout a run."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    is_weights: bool = False

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Node:
    """One call of an operator. Arguments that are left out have torch's default."""

    name: str
    operator: Operator
    arguments: Mapping[str, Argument]

    def references(self) -> Iterator[Ref]:
        """Every reference among the arguments, in their order, each as often as it stands there."""
        for value in self.arguments.values():
            yield from references(value)

    def __str__(self) -> str:
        return f"node {self.name} ({self.operator.name})"


@dataclass(frozen=True, slots=True)
class TaskGraph:
    """A pure function of its inputs. References point backwards only: the nodes stand in an order of execution."""

    inputs: tuple[GraphInput, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Ref, ...]


def references(value: Argument) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple):
        for element in value:
            yield from references(element)
