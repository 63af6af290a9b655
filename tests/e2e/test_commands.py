"""`splitup-node` as a requester types it: split, publish, assign, watch, and what it says when something is wrong."""

import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.e2e.author import FEATURES, author
from tests.e2e.conftest import World
from tests.e2e.typed import Said, typed

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
    pytest.mark.validator,
]


async def as_requester(world: World, *words: object, **env: str) -> Said:
    return await typed({**world.net.requester_env(), **env}, *words)


async def well(world: World, *words: object) -> str:
    said = await as_requester(world, *words)
    assert said.status == 0, said
    return said.output


async def test_a_model_is_split_published_assigned_and_computed_by_commands(world: World, tmp_path: Path) -> None:
    pieces, inputs, outputs = tmp_path / "pieces", tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    x = torch.linspace(-1, 1, 5 * FEATURES).reshape(5, FEATURES)
    safetensors.torch.save_file({"x": x}, inputs)
    assert (await well(world, "split", "tests.e2e.author:author", pieces, "--pieces", 2)).count("piece ") == 2
    await well(world, "publish", pieces)
    node = ("--node", world.node.address)
    told = await well(
        world, "assign", pieces, *node, "--inputs", inputs, "--reward", 1_000_000, "--outputs", outputs
    )
    assert told.count("completed") == 2
    (output,) = safetensors.torch.load_file(outputs).values()
    model, _, _ = author()
    with torch.inference_mode():
        assert torch.allclose(output, model(x), atol=1e-6)
    execution, task = re.findall(r"assigned as (\S+) (\S+),", told)[-1]
    again = await as_requester(world, "watch", execution, task)
    assert again.status == 1
    assert "was reclaimed" in again.errors


async def test_an_assigned_task_is_watched_to_its_payment(world: World, tmp_path: Path) -> None:
    pair = (await world.desk.assign(world.node.address)).assignment.pair
    told = await well(world, "watch", pair.execution_id, pair.task_id, "--outputs", tmp_path / "out.safetensors")
    assert "paid 2,000,000 lamports" in told
    assert list(safetensors.torch.load_file(tmp_path / "out.safetensors")) == ["0"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("cancel", "never", "assigned"), "never/assigned has no account"),
        (("watch", "../etc", "passwd"), "executionId '../etc' is not an id"),
        (("publish", "/nowhere"), "the folder /nowhere does not exist"),
        (("split", "tests.e2e.author:nobody", "pieces"), "nobody"),
        (("dance",), "there is no command 'dance'"),
    ],
)
async def test_a_mistake_is_told_in_one_line_with_its_place(
    world: World, words: tuple[str, ...], reason: str
) -> None:
    said = await as_requester(world, *words)
    assert said.status == 1
    assert reason in said.errors
    assert "Traceback" not in said.errors


async def test_a_missing_setting_is_named(world: World) -> None:
    said = await as_requester(world, "cancel", "never", "assigned", SPLITUP_PUBLISH_PREFIX="")
    assert said.status == 1
    assert "SPLITUP_PUBLISH_PREFIX" in said.errors


async def test_a_key_that_others_can_read_is_refused(world: World, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text((world.net.folder / "requester.json").read_text())
    key.chmod(0o644)
    said = await as_requester(world, "cancel", "never", "assigned", SPLITUP_REQUESTER_KEYPAIR=str(key))
    assert said.status == 1
    assert "chmod 600" in said.errors
    assert str(world.net.requester.to_json())[1:40] not in said.errors
