"""Runs mutants of valid graphs for real, within the limits that they were inferred to keep; a process of its own.

`python -m tests.unit.mutant_runs DOCUMENTS BEGIN END`: DOCUMENTS is a file with one JSON document a line. Each seed is
printed before it is tried, so that whoever started the process knows what crashed or hung it, and the ends at last.
"""

import json
import random
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

from compute.graph.cost import compute_units
from compute.graph.document import parse_graph
from compute.graph.inference import Inference
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.graph.task_graph import TaskGraph
from compute.specs import TensorSpec
from compute.worker.program import Program
from shared.errors import ComputationFailed, TaskError
from tests.unit.mutants import mutant
from tests.unit.samples import drawn_inputs

CPU = torch.device("cpu")
MAX_BYTES = 64 << 20
MAX_UNITS = 3
LONGEST_S = 20.0
"""Of process time, for a mutant of at most MAX_UNITS: far above what they take, far below a hang."""
HEADROOM_BYTES = 1 << 30
DIRT = (0x00, 0xFF)


def tried(package: bytes, length: int) -> str:
    """How a package ended: "ran", or the reason for which it was refused."""
    try:
        graph = parse_graph(package, max_bytes=1 << 20, max_nodes=1000)
        inputs = _inputs(graph, length)
        specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in inputs]
        inference = infer(graph, specs, max_bytes=MAX_BYTES)
        if compute_units(graph, inference) > MAX_UNITS:
            return "expensive"
        _run_twice(graph, inputs, inference)
    except TaskError as error:
        return error.reason
    return "ran"


def _inputs(graph: TaskGraph, length: int) -> list[torch.Tensor]:
    """Random tensors; a symbolic dimension has the same length throughout. Too large ones are refused."""
    described = [
        {"dtype": given.dtype, "shape": [length if isinstance(each, str) else each for each in given.shape]}
        for given in graph.inputs
    ]
    bytes_together = sum(TensorSpec(each["dtype"], tuple(each["shape"])).nbytes for each in described)
    if bytes_together > MAX_BYTES:
        raise ComputationFailed("its inputs are larger than a test wants them")
    return drawn_inputs({"inputs": described})


def _run_twice(graph: TaskGraph, inputs: list[torch.Tensor], inference: Inference) -> None:
    """Over memory that holds other bytes each time: what the outputs show of it would differ."""
    program = Program(graph)
    seen = []
    for dirt in DIRT:
        sizes = {spec.nbytes for specs in inference.values.values() for spec in specs}
        dirty = [torch.full((size,), dirt, dtype=torch.uint8) for size in sorted(sizes)[-64:]]
        del dirty
        outputs = program.run([tensor.clone() for tensor in inputs], lambda: False, CPU)
        given = tuple(TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in outputs)
        assert given == inference.outputs, f"inferred {inference.outputs}, given {given}"
        seen.append([_bytes(tensor) if tensor.dim() else tensor for tensor in outputs])
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other) or torch.isnan(one).any(), "two runs gave different bytes"


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A dimension of one element may have any stride, which no view as bytes takes, so it is copied."""
    return tensor.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def main(documents: Path, begin: int, end: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch warns of odd arguments, which is its answer to them
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = held + MAX_BYTES * 4 + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    originals = [json.loads(line) for line in documents.read_text().splitlines()]
    ends: Counter[str] = Counter()
    for seed in range(begin, end):
        sys.stdout.write(f"{seed}\n")
        sys.stdout.flush()
        rng = random.Random(seed)
        package = mutant(rng.choice(originals), rng)
        before = time.process_time()
        ended = tried(package, rng.choice((1, 2, 5)))
        assert ended != "OutOfMemory", f"seed {seed} was inferred to hold at most {MAX_BYTES} bytes"
        assert time.process_time() - before < LONGEST_S, f"seed {seed} took {time.process_time() - before} s"
        ends[ended] += 1
    sys.stdout.write(json.dumps(ends) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
