"""What torch does only once, done before anything is locked or timed."""

import os
import warnings

import torch

from compute.graph.document import parse_graph
from compute.graph.shapes import infer
from compute.graph.task_graph import TaskGraph
from compute.specs import DType, TensorSpec
from compute.worker.device import probe, use_in_this_thread
from compute.worker.program import Program
from compute.worker.wire import Limits

_PACKAGE = b"""{
    "format": "splitup-task-graph", "version": 1,
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["n"]}],
    "nodes": [{"name": "y", "op": "aten.add.Tensor", "args": {"self": {"ref": "x"}, "other": {"ref": "x"}}}],
    "outputs": [{"ref": "y"}]
}"""
TORCHS_OWN_THREADS = torch.get_num_threads()
"""Before anything here sets another number."""
_ELEMENTS = 1 << 17
"""Enough for torch to use all of its threads."""


def import_all(limits: Limits) -> None:
    """What torch imports and reads at its first inference and run, in one thread. Raises RuntimeError.

    A lock that is put on afterwards lets no module be imported and no file be read.
    """
    # Inputs are mapped read-only, and of that torch warns each time.
    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    torch.set_num_threads(1)
    warm_up_planner(limits)
    warm_up_worker(torch.device("cpu"), limits)
    if (threads := len(os.listdir("/proc/self/task"))) != 1:  # noqa: PTH208
        raise RuntimeError(f"there are {threads} threads after the import of torch, and a fork would lose them")


def warm_up_planner(limits: Limits) -> None:
    infer(_graph(limits), [TensorSpec(DType.FLOAT32, (2,))], max_bytes=limits.max_task_bytes)


def warm_up_worker(device: torch.device, limits: Limits) -> None:
    """In each thread that computes. Raises RuntimeError where the device computes wrongly."""
    use_in_this_thread(device)
    probe(device)
    Program(_graph(limits)).run([torch.zeros(_ELEMENTS, device=device)], lambda: False, device)


def _graph(limits: Limits) -> TaskGraph:
    return parse_graph(_PACKAGE, max_bytes=limits.max_graph_bytes, max_nodes=limits.max_graph_nodes)
