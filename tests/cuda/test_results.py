"""What the device computes: the host's results but for rounding, and the same bytes each time."""

import asyncio

import pytest
import torch

from compute.graph.operator import Additions
from compute.graph.operators import OPERATORS
from compute.graph.steps import SPEC_DTYPES
from compute.specs import DType, TensorSpec
from compute.worker.pool import WorkerPool
from tests.hostile.test_operators import SIDE, Outcome, here, in_the_lock
from tests.integration.test_compute_worker import worker_pool
from tests.unit.graphs import Document, as_bytes, document, node, ref, tensor
from tests.unit.minilm_pieces import pieces
from tests.unit.samples import TORCH_OPERATORS, drawn_inputs, sample
from tests.unit.test_split_minilm import tokens, unsplit

pytestmark = pytest.mark.timeout(600)

DTYPES = (DType.FLOAT32, DType.BFLOAT16)
TOLERANCE = {DType.FLOAT32: 1e-4, DType.BFLOAT16: 3e-2}
"""Of the largest element: sums of a few dozen terms in another order."""
EXACT = 3e-5
"""Of the largest element: a sum of two thousand products in float32 is off by some 2e-6 in any order, and one of
factors with TF32's 10 bits by 3e-4."""
SAME_BYTES = (Additions.FIXED, Additions.LIBRARY)


async def on_device(pool: WorkerPool, package: Document, inputs: list[torch.Tensor]) -> Outcome:
    return await in_the_lock(pool, as_bytes(package), inputs, specs(inputs))


def specs(inputs: list[torch.Tensor]) -> list[TensorSpec]:
    return [TensorSpec(SPEC_DTYPES[value.dtype], tuple(value.shape)) for value in inputs]


def difference(seen: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest, as a part of the largest element; of whole numbers and flags none is allowed, so any is infinite."""
    assert (seen.dtype, seen.shape) == (expected.dtype, expected.shape)
    if not expected.dtype.is_floating_point:
        return 0.0 if torch.equal(seen, expected) else float("inf")
    one, other = (torch.nan_to_num(value.double(), nan=0.25) for value in (seen, expected))
    assert torch.equal(seen.isnan(), expected.isnan())
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))


def bytes_of(outputs: Outcome) -> list[bytes]:
    assert not isinstance(outputs, str), outputs
    return [value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for value in outputs]


async def test_every_listed_operator_gives_what_the_host_gives() -> None:
    differs: dict[str, object] = {}
    async with worker_pool(device="cuda") as pool:
        for operator in TORCH_OPERATORS:
            for dtype in DTYPES:
                package = sample(operator.name, SIDE, dtype)
                inputs = drawn_inputs(package)
                expected = here(package, inputs, specs(inputs))
                if isinstance(expected, str):
                    continue
                seen = await on_device(pool, package, inputs)
                if isinstance(seen, str):
                    differs[f"{operator.name} {dtype}"] = seen
                elif (most := max(map(difference, seen, expected))) > TOLERANCE[dtype]:
                    differs[f"{operator.name} {dtype}"] = most
    assert not differs, f"{len(differs)}: {differs}"


async def test_the_same_task_gives_the_same_bytes_alone_and_under_load() -> None:
    differs = []
    async with worker_pool(device="cuda", max_running=4) as pool:
        for operator in TORCH_OPERATORS:
            if OPERATORS[operator.name].additions not in SAME_BYTES:
                continue
            for dtype in DTYPES:
                package = sample(operator.name, SIDE, dtype)
                inputs = drawn_inputs(package)
                if isinstance(here(package, inputs, specs(inputs)), str):
                    continue
                alone = bytes_of(await on_device(pool, package, inputs))
                together = await asyncio.gather(*(on_device(pool, package, inputs) for _ in range(4)))
                if [bytes_of(outputs) for outputs in together] != [alone] * 4:
                    differs.append(f"{operator.name} {dtype}")
    assert not differs


def product(dtype: DType) -> tuple[Document, list[torch.Tensor]]:
    inputs = [tensor("x", [256, 2_048], dtype), tensor("y", [2_048, 256], dtype)]
    graph = document(inputs, [node("n", "aten.mm.default", self=ref("x"), mat2=ref("y"))], [ref("n")])
    return graph, drawn_inputs(graph)


def attention(dtype: DType) -> tuple[Document, list[torch.Tensor]]:
    inputs = [tensor(name, [2, 8, 256, 64], dtype) for name in "qkv"]
    arguments = {"query": ref("q"), "key": ref("k"), "value": ref("v"), "is_causal": True}
    graph = document(inputs, [node("n", "aten.scaled_dot_product_attention.default", **arguments)], [ref("n")])
    return graph, drawn_inputs(graph)


def convolution(dtype: DType) -> tuple[Document, list[torch.Tensor]]:
    inputs = [tensor("x", [2, 128, 16, 16], dtype), tensor("w", [64, 128, 3, 3], dtype)]
    arguments = {"input": ref("x"), "weight": ref("w"), "bias": None, "stride": [1, 1], "padding": [1, 1]}
    rest = {"dilation": [1, 1], "transposed": False, "output_padding": [0, 0], "groups": 1}
    graph = document(inputs, [node("n", "aten.convolution.default", **arguments, **rest)], [ref("n")])
    return graph, drawn_inputs(graph)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [product, attention, convolution])
async def test_long_sums_lose_nothing_beyond_their_dtype(make, dtype: DType) -> None:
    graph, inputs = make(dtype)
    in_full, _ = make(DType.FLOAT64)
    wide = [value.double() for value in inputs]
    expected = here(in_full, wide, specs(wide))
    assert not isinstance(expected, str), expected
    async with worker_pool(device="cuda") as pool:
        seen = await on_device(pool, graph, inputs)
    assert not isinstance(seen, str), seen
    allowed = EXACT if dtype is DType.FLOAT32 else TOLERANCE[dtype]
    assert difference(seen[0].double(), expected[0]) <= allowed


async def test_the_sentence_models_pieces_give_what_the_unsplit_model_gives_on_the_host() -> None:
    given = tokens(3, 33)
    chain = dict(given)
    async with worker_pool(device="cuda") as pool:
        for piece in pieces():
            inputs = [*(chain[name] for name in piece.activations), *piece.weights.values()]
            seen = await in_the_lock(pool, piece.package, inputs, specs(inputs))
            assert not isinstance(seen, str), seen
            chain |= dict(zip(piece.outputs, seen, strict=True))
    assert (seen[0] - unsplit(given)).abs().max() <= 1e-5
