"""The program and the node agree on what an id and a TensorUri are."""

import os
import random
from dataclasses import replace

from shared.errors import SplitUpError
from shared.ids import parse_model_id
from shared.uris import parse_tensor_uri
from tests.program.world import World

ROUNDS = 20_000 if os.environ.get("FULL") == "1" else 1_500
URIS = (
    "s3://bucket/tensors/public/x.safetensors#0",
    "s3://b/k",
    "s3://b/k#*",
    "file:///srv/tensors/x.safetensors",
    "file:///a#b/c",
    "s3://bucket/" + "k" * 388,
)
IDS = ("a", "task-1", "A" * 64, "0_.x")
PIECES = (
    "/",
    "//",
    ".",
    "..",
    "/../",
    "#",
    "*",
    "#*",
    "%2e",
    "s3://",
    "file://",
    "\0",
    "é",
    " ",
    "\\",
    "?",
    ":",
    "_",
    "Z",
)


def mutated(text: str, draw: random.Random) -> str:
    for _ in range(draw.randint(0, 3)):
        at = draw.randint(0, len(text))
        cut = draw.randint(0, 2)
        text = text[:at] + draw.choice((*PIECES, "")) + text[at + cut :]
    return text


def node_takes(uri: str, model_id: str) -> bool:
    try:
        parse_tensor_uri(uri)
        parse_model_id(model_id)
    except SplitUpError:
        return False
    return True


def test_node_and_program_agree_on_ids_and_uris() -> None:
    draw = random.Random(8)
    world = World()
    taken = 0
    for _ in range(ROUNDS):
        uri = mutated(draw.choice(URIS), draw)
        model_id = mutated(draw.choice(IDS), draw) if draw.random() < 0.3 else "m"
        terms = replace(world.assignment, input_uris=(uri,), model_id=model_id)
        error = world.chain.simulated(world.pair.assign_task(terms), world.requester)
        assert error in (None, "InvalidInputUri", "InvalidModelId"), (uri, model_id, error)
        assert (error is None) == node_takes(uri, model_id), (uri, model_id, error)
        taken += error is None
    assert ROUNDS // 10 < taken < ROUNDS
