"""Whatever the list of operators names runs in a locked worker, with the very outcome that it has in this process."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
import torch

from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.shared_memory import SharedBuffer, layout
from compute.specs import DType, TensorSpec
from compute.worker.lock.sandbox import CORE, check_sandbox
from compute.worker.loop import tensors_in
from compute.worker.options import WorkerOptions
from compute.worker.pool import WorkerPool
from compute.worker.program import Program
from compute.worker.wire import Job
from shared.errors import TaskError
from tests.integration.test_compute_worker import LIMITS
from tests.needs import absent
from tests.pieces import run_pieces
from tests.unit.graphs import Document, as_bytes, read
from tests.unit.minilm_pieces import pieces
from tests.unit.samples import TORCH_OPERATORS, drawn_inputs, sample
from tests.unit.test_split_minilm import tokens

pytestmark = pytest.mark.timeout(600)
"""A task for each operator and dtype: five hundred, and 2,000 with FULL=1."""

DTYPES = tuple(DType) if os.environ.get("FULL") == "1" else (DType.FLOAT32, DType.BFLOAT16, DType.INT64)
SIDE = 32
"""Some operators share this much work among threads, others do not."""
THREADS = 2
"""So that torch's threads share an operator's work, under the lock as here."""
Outcome = list[torch.Tensor] | str
"""The outputs, or the error with which the task ends."""


@asynccontextmanager
async def locked_pool() -> AsyncIterator[WorkerPool]:
    if gaps := check_sandbox("best-effort"):
        absent(f"this machine cannot lock a process: {gaps}")
    pool = WorkerPool(WorkerOptions("cpu", THREADS, 2, LIMITS, 4 << 30, "required"), plan_limit_s=20.0)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(pool.serve())
        yield pool
        serving.cancel()


async def in_the_lock(
    pool: WorkerPool, package: bytes, inputs: list[torch.Tensor], given: list[TensorSpec]
) -> Outcome:
    # All in one buffer, as the tensors of one object lie.
    begins, size = layout(given)
    try:
        plan = await pool.plan(Job(package, (tuple(given),)), "one")
        with (
            closing(SharedBuffer("inputs", size)) as buffer,
            closing(SharedBuffer("outputs", layout(plan.outputs)[1])) as outputs,
        ):
            for begin, value, spec in zip(begins, inputs, given, strict=True):
                data = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                buffer.view[begin : begin + spec.nbytes] = data
            job = Job(package, (tuple(given),), plan.outputs)
            await pool.run(job, [buffer], outputs, lambda: None, "one")
            return [value.clone() for value in tensors_in(outputs.view, plan.outputs)]
    except TaskError as exc:
        return f"{type(exc).__name__}: {exc}"


def here(package: Document, inputs: list[torch.Tensor], given: list[TensorSpec]) -> Outcome:
    try:
        read_graph = read(package)
        infer(read_graph, given, max_bytes=LIMITS.max_task_bytes)
        return Program(read_graph).run(inputs, lambda: False, torch.device("cpu"))
    except TaskError as exc:
        return f"{type(exc).__name__}: {exc}"


def same(seen: Outcome, expected: Outcome) -> bool:
    if isinstance(seen, str) or isinstance(expected, str):
        return seen == expected
    return len(seen) == len(expected) and all(
        torch.allclose(one.to(torch.float64), other.to(torch.float64), rtol=1e-2, atol=1e-3, equal_nan=True)
        for one, other in zip(seen, expected, strict=True)
    )


async def test_every_listed_operator_ends_in_the_lock_as_it_does_without() -> None:
    computed: set[str] = set()
    differs: dict[str, tuple[Outcome, Outcome]] = {}
    async with locked_pool() as pool:
        for operator, dtype in itertools.product(TORCH_OPERATORS, DTYPES):
            package = sample(operator.name, SIDE, dtype)
            inputs = drawn_inputs(package)
            given = [TensorSpec(SPEC_DTYPES[value.dtype], tuple(value.shape)) for value in inputs]
            seen = await in_the_lock(pool, as_bytes(package), inputs, given)
            expected = here(package, inputs, given)
            if not same(seen, expected):
                differs[f"{operator.name} {dtype}"] = (seen, expected)
            elif not isinstance(seen, str):
                computed.add(operator.name)
        assert pool.sandbox is not None
        assert set(pool.sandbox.held) >= CORE
    assert not differs, f"{len(differs)}: {list(differs.items())[:20]}"
    assert computed == {operator.name for operator in TORCH_OPERATORS}


async def test_the_sentence_models_pieces_run_in_the_lock_and_give_what_they_give_without() -> None:
    given = tokens(3, 33)
    chain = dict(given)
    async with locked_pool() as pool:
        for piece in pieces():
            inputs = [*(chain[name] for name in piece.activations), *piece.weights.values()]
            described = [TensorSpec(SPEC_DTYPES[value.dtype], tuple(value.shape)) for value in inputs]
            seen = await in_the_lock(pool, piece.package, inputs, described)
            assert not isinstance(seen, str), seen
            chain |= dict(zip(piece.outputs, seen, strict=True))
    (vectors,) = run_pieces(pieces(), given)
    assert (seen[0] - vectors).abs().max() <= 1e-6
