"""What is known of a run before it: the dtype and shape of every value, and the memory that it takes."""

from collections.abc import Mapping
from dataclasses import dataclass

from compute.graph.task_graph import Ref
from compute.specs import TensorSpec


@dataclass(frozen=True, slots=True)
class Inference:
    """`values`: the tensors of each input and node by name; a size has none.

    `peak_bytes`: the most that the inputs, held throughout, the values, each freed after its last use, and the
    workspace of the node that runs (workspace.py) take at once; views share their memory. `sum_bytes`: all values'
    bytes together, views included.
    """

    values: Mapping[str, tuple[TensorSpec, ...]]
    outputs: tuple[TensorSpec, ...]
    peak_bytes: int
    sum_bytes: int

    def spec(self, ref: Ref) -> TensorSpec:
        """dtype and shape of the tensor that `ref` names."""
        return self.values[ref.name][ref.item or 0]
