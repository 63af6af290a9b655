"""From a torch module to one task graph: exported with its dynamic dimensions, decomposed to the allowlist."""

import operator as python_operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from compute.graph.document import NAME
from compute.graph.operator import Result
from compute.graph.operators import OPERATORS
from compute.graph.steps import SPEC_DTYPES
from compute.graph.task_graph import GraphInput, Node, Ref, TaskGraph
from requester.recurrent import whole_recurrences
from requester.translate import DROPPED, IDENTITIES, PYTHON_OPERATORS, knows, translate
from shared.errors import CannotSplit

MAX_DECOMPOSITIONS = 8
"""Rounds of decomposition; each brings the operators that the last one's results are made of."""

_WEIGHT_KINDS = frozenset({InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR})


@dataclass(frozen=True, slots=True)
class Exported:
    """A whole model as a task graph. `weights`: parameters, buffers and constants by the name of their input.

    `described`: dtype and symbolic shape of every tensor, as an input of a later piece would state them.
    `modules`: by node, the path of the module whose forward it stands in ("" for the outermost).
    """

    graph: TaskGraph
    weights: Mapping[str, torch.Tensor]
    described: Mapping[Ref, GraphInput]
    modules: Mapping[str, str]


def export_model(
    module: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], dynamic_shapes: object = None
) -> Exported:
    """Export `module` in its present mode (call eval() first) by torch.export, with its `dynamic_shapes`.

    Raises OperatorNotAllowed for an operator outside the allowlist that torch cannot decompose to it, and
    CannotSplit for a model that writes to its buffers or takes or gives anything but tensors.
    """
    with warnings.catch_warnings():
        # torch.export copies its own tree specs, which warns of a class that only torch itself uses.
        warnings.simplefilter("ignore", FutureWarning)
        with torch.no_grad(), whole_recurrences(module):
            program = torch.export.export(module, example_inputs, dynamic_shapes=dynamic_shapes)  # type: ignore[arg-type] # torch's union of nested shapes
        program = _decomposed(program)
    return _Reader(program, dynamic_shapes).read()


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    program = program.run_decompositions({})
    for _ in range(MAX_DECOMPOSITIONS):
        table = torch.export.default_decompositions()
        wanted = {target: table[target] for target in _outside(program) if target in table}
        if not wanted:
            break
        program = program.run_decompositions(wanted)
    return program


def _outside(program: ExportedProgram) -> set[torch._ops.OperatorBase]:
    """The operators of the program that neither the allowlist nor translate.py knows."""
    targets = {node.target for node in program.graph.nodes if node.op == "call_function"}
    return {
        target
        for target in targets
        if isinstance(target, torch._ops.OpOverload) and str(target) not in OPERATORS and not knows(str(target))
    }


class _Reader:
    """Reads one exported program from its first node to its last."""

    def __init__(self, program: ExportedProgram, dynamic_shapes: object) -> None:
        self._program = program
        self._signature = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        self._values: dict[torch.fx.Node, object] = {}
        self._inputs: list[GraphInput] = []
        self._nodes: list[Node] = []
        self._weights: dict[str, torch.Tensor] = {}
        self._described: dict[Ref, GraphInput] = {}
        self._modules: dict[str, str] = {}
        self._single: set[Ref] = set()
        self._dimensions = _Dimensions(program, dynamic_shapes)

    def read(self) -> Exported:
        outputs: tuple[Ref, ...] = ()
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._read_input(node)
            elif node.op == "call_function":
                self._read_call(node)
            else:
                outputs = self._read_outputs(node)
        inputs = sorted(self._inputs, key=lambda given: given.is_weights)
        graph = TaskGraph(tuple(inputs), tuple(self._nodes), outputs)
        return Exported(graph, self._weights, self._described, self._modules)

    def _read_input(self, node: torch.fx.Node) -> None:
        spec = self._signature[node.name]
        if isinstance(spec.arg, ConstantArgument):
            if node.users:
                raise CannotSplit(
                    f"the model's input {node.name} is {spec.arg.value!r}; only tensors can be inputs"
                )
            return
        if spec.kind not in _WEIGHT_KINDS:
            self._add_input(node, node.name, is_weights=False)
            return
        assert spec.target is not None
        if node.users:
            self._weights[self._add_input(node, spec.target, is_weights=True)] = self._weight(spec.target)

    def _weight(self, path: str) -> torch.Tensor:
        held = self._program.state_dict.get(path)
        tensor: torch.Tensor = held if held is not None else self._program.constants[path]
        return tensor.detach().contiguous()

    def _add_input(self, node: torch.fx.Node, name: str, *, is_weights: bool) -> str:
        # A parameter's path may be what an input is called: both then stay distinct.
        while any(given.name == name for given in self._inputs):
            name += ".weights"
        described = self._describe(name, node, is_weights)
        self._inputs.append(described)
        self._values[node] = Ref(name)
        self._described[Ref(name)] = described
        return name

    def _describe(self, name: str, node: torch.fx.Node, is_weights: bool = False) -> GraphInput:
        tensor = node.meta["val"]
        shape = tuple(self._dimensions.length(length) for length in tensor.shape)
        return GraphInput(name, SPEC_DTYPES[tensor.dtype], shape, is_weights)

    def _read_call(self, node: torch.fx.Node) -> None:
        target = str(node.target)
        if target in DROPPED:
            return
        if node.target is python_operator.getitem:
            source, item = self._value(node.args[0]), node.args[1]
            assert isinstance(source, Ref) and isinstance(item, int)
            picked = source if source in self._single else Ref(source.name, item)
            self._values[node] = picked
            self._note(node, picked)
            return
        if target in IDENTITIES:
            self._values[node] = self._value(node.args[0])
            return
        called = translate(node, PYTHON_OPERATORS.get(node.target, target), self._value)
        if isinstance(called, Ref):
            self._values[node] = called
            return
        self._nodes.append(called)
        self._values[node] = Ref(called.name)
        if called.operator.result is Result.TENSOR:
            self._single.add(Ref(called.name))
        self._modules[called.name] = _module_path(node)
        self._note(node, Ref(called.name))

    def _note(self, node: torch.fx.Node, ref: Ref) -> None:
        if isinstance(node.meta.get("val"), torch.Tensor):
            name = ref.name if ref.item is None else f"{ref.name}.{ref.item}"
            self._described[ref] = self._describe(name, node)

    def _value(self, argument: object) -> object:
        """`argument` of an exported node with each node in it replaced by a reference."""
        if isinstance(argument, torch.fx.Node):
            return self._values[argument]
        if isinstance(argument, (list, tuple)):
            return tuple(self._value(element) for element in argument)
        if isinstance(argument, torch.dtype):
            return SPEC_DTYPES[argument]
        return argument

    def _read_outputs(self, node: torch.fx.Node) -> tuple[Ref, ...]:
        written = [
            spec.target
            for spec in self._program.graph_signature.output_specs
            if spec.kind is not OutputKind.USER_OUTPUT
        ]
        if written:
            raise CannotSplit(f"the model writes to {written[0]}; call eval() first, a task is a pure function")
        outputs = self._value(node.args[0])
        assert isinstance(outputs, tuple)
        for output in outputs:
            if not isinstance(output, Ref) or output not in self._described:
                raise CannotSplit(f"the model gives {output!r}; only tensors can be outputs")
        return outputs


class _Dimensions:
    """Names for symbolic lengths: the author's where `dynamic_shapes` has one, else d0, d1, …"""

    def __init__(self, program: ExportedProgram, dynamic_shapes: object) -> None:
        self._names = dict(_author_names(program, dynamic_shapes))

    def length(self, length: int | torch.SymInt) -> int | str:
        if isinstance(length, int):
            return length
        return self._names.setdefault(str(length), f"d{len(self._names)}")


def _author_names(program: ExportedProgram, dynamic_shapes: object) -> list[tuple[str, str]]:
    """(torch's symbol, author's name) of each named dimension, where shapes and inputs run side by side."""
    inputs = program.graph_signature.user_inputs
    shapes = list(dynamic_shapes.values()) if isinstance(dynamic_shapes, dict) else dynamic_shapes
    if not isinstance(shapes, Sequence) or len(shapes) != len(inputs):
        return []
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found = []
    for name, dimensions in zip(inputs, shapes, strict=True):
        if not isinstance(dimensions, dict) or not isinstance(name, str):
            continue
        for place, dimension in dimensions.items():
            label = dimension if isinstance(dimension, str) else getattr(dimension, "__name__", None)
            length = nodes[name].meta["val"].shape[place]
            # A length that the author derives, 2*height, has no name of its own.
            if label is not None and NAME.fullmatch(label) and isinstance(length, torch.SymInt):
                found.append((str(length), label))
    return found


def _module_path(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed([path for path, _ in stack.values()]), "")
