"""Two layers of MiniLM at batch 8 as a task, beside the same layers by hand with their weights in memory."""

import asyncio
from collections.abc import Sequence

import torch

from bench.compute.node import OWNER, PREFIX, Work, medians
from bench.compute.objects import Captured, path_of
from bench.compute.small_tasks import by_stage
from bench.lines import Goal, Line
from bench.machine import machine
from requester.publish import publish_tensors
from requester.published import publish_piece
from requester.split import split_model
from shared.uris import parse_tensor_uri

TASKS, TINY_TASKS = 50, 1
SHAPE = (8, 128, 384)
"""Batch, sequence, features."""
LIMIT = "By hand the weights stay in memory; see the stage that fetches."


class TwoLayers(torch.nn.Module):
    """Hidden states, float32 [batch, sequence, features], to the same behind two layers of the encoder."""

    def __init__(self, layers: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            found = layer(hidden)
            hidden = found[0] if isinstance(found, tuple) else found
        return hidden


async def measure(*, is_tiny: bool) -> list[Line]:
    """Nothing where the model is not installed."""
    try:
        from examples import minilm  # noqa: PLC0415 # transformers takes seconds

        module = TwoLayers(minilm.load().encoder.encoder.layer[2:4]).eval()
    except ModuleNotFoundError:
        return []
    captured, hidden = Captured(), torch.rand(SHAPE)
    (piece,) = split_model(module, (hidden,))
    published = await publish_piece(captured, PREFIX, OWNER, piece)
    uri = await publish_tensors(captured, PREFIX, OWNER, [hidden], is_weights=False)
    assert published.weights_uri is not None
    work = Work(
        model_id=published.model_id,
        inputs=[uri, published.weights_uri],
        fetched=[path_of(parse_tensor_uri(uri).object)],
        run=lambda given: module(*given),
        dtype=hidden.dtype,
        shapes=[SHAPE],
    )
    ours, bare = await asyncio.to_thread(medians, work, captured.objects, TINY_TASKS if is_tiny else TASKS)
    whole = Line(
        "piece of MiniLM at batch 8, POST to outputs stored",
        f"ms, {machine()}",
        ours["all"],
        bare=bare["all"],
        goal=Goal("ratio", "<=", 1.3),
        limit=LIMIT,
    )
    return [whole, *by_stage("piece of MiniLM", ours, bare)]
