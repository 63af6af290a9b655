"""What the program costs: its size, and the compute units of each instruction. `pytest -s` prints them."""

from dataclasses import replace
from typing import Literal

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.system_program import TransferParams, transfer

from listener.compute_units import UNITS_PER_BUILTIN, limit_for, of_reference_program
from tests.program.chain import Chain, build
from tests.program.world import World

MAX_BUILD_BYTES = 40 * 1024
PAIRS = 24
URI = "s3://bucket/tensors/public/x.safetensors#0"
LONGEST = "s3://" + "b" * 60 + "/" + "k" * 334
SEARCH_STEP_UNITS = 1_500
"""What the runtime asks for each bump that a search for an address tries."""

NAMES = ("assign_task", "assign_task, taken again", "cancel_execution", "task_completed", "task_failed", "reclaim")
# In the order of NAMES; of the two for assign_task those of the first bump. A quarter above what was seen, since other
# compilers build other bytes.
MAX_UNITS: dict[str, tuple[int, ...]] = {
    "one URI": (11_000, 7_000, 3_000, 3_600, 3_600, 2_000),
    "eight URIs of 400 bytes": (66_000, 62_000, 3_000, 60_000, 3_600, 2_000),
}
URIS = {"one URI": (URI,), "eight URIs of 400 bytes": (LONGEST,) * 8}


def spent(task_id: str, uris: tuple[str, ...]) -> tuple[int, dict[str, int]]:
    """How many bumps the search for this pair passes over, and what each instruction takes."""
    world = World(Chain())
    world.pair = replace(world.pair, task_id=task_id)
    terms = replace(world.assignment, task_id=task_id, input_uris=uris, expected_output_count=len(uris))
    outputs = tuple(uri.partition("#")[0] for uri in uris)
    send = world.chain.accepted
    units = [send(world.pair.assign_task(terms), world.requester).compute_units]
    failed = send(world.pair.task_failed(world.head.attempt, "x" * 256), world.node).compute_units
    world.chain.pass_time(1)
    units.append(send(world.pair.assign_task(terms), world.requester).compute_units)
    units.append(send(world.pair.cancel_execution(), world.requester).compute_units)
    units.append(send(world.pair.task_completed(world.head.attempt, outputs), world.node).compute_units)
    world.chain.pass_time(1)
    units += [failed, send(world.pair.reclaim(), world.requester).compute_units]
    return 255 - world.pair.bump, dict(zip(NAMES, units, strict=True))


@pytest.mark.parametrize("version", ["v0", "v3"])
def test_the_build_is_small(version: Literal["v0", "v3"]) -> None:
    length = len(build(version))
    print(f"splitup.{version}.so: {length:,} bytes")
    assert length <= MAX_BUILD_BYTES


@pytest.mark.parametrize("size", URIS)
def test_only_assign_task_costs_more_for_some_ids_than_for_others(size: str) -> None:
    """Ids of one length: the search for the address takes longer for some, and only `assign_task` searches."""
    seen = [spent(f"task-0-{number:08}", URIS[size]) for number in range(PAIRS)]
    assert len({skipped for skipped, _ in seen}) > 1
    for name, limit in zip(NAMES, MAX_UNITS[size], strict=True):
        step = SEARCH_STEP_UNITS if name.startswith("assign_task") else 0
        (units,) = {units[name] - skipped * step for skipped, units in seen}
        print(f"{size}, {name}: {units:,} compute units")
        assert units <= limit


def submitted(id_length: int, uris: tuple[str, ...], message: str) -> dict[int, int]:
    """The units that each of the node's transactions takes, by the bytes of its instruction's data."""
    seen = {}
    for is_failure in (False, True):
        world = World(Chain())
        world.pair = replace(world.pair, execution_id="e" * id_length, task_id="t" * id_length)
        world.assign(
            execution_id="e" * id_length, task_id="t" * id_length, expected_output_count=max(1, len(uris))
        )
        attempt = world.head.attempt
        told = world.pair.task_failed(attempt, message) if is_failure else world.pair.task_completed(attempt, uris)
        top_up = transfer(
            TransferParams(from_pubkey=world.node.pubkey(), to_pubkey=world.pair.address, lamports=1)
        )
        budget = [set_compute_unit_limit(200_000), set_compute_unit_price(1)]
        units = world.chain.accepted([*budget, top_up, told], world.node).compute_units
        seen[len(told.data)] = units - 3 * UNITS_PER_BUILTIN
    return seen


@pytest.mark.parametrize("id_length", [1, 36, 64])
@pytest.mark.parametrize(("count", "length"), [(1, 20), (1, 135), (1, 400), (2, 100), (4, 160), (8, 20), (8, 80)])
def test_the_limit_of_a_submission_is_a_fifth_above_what_it_takes(id_length: int, count: int, length: int) -> None:
    uris = (("s3://b/" + "k" * 400)[:length],) * count
    for data_bytes, units in submitted(id_length, uris, "x" * (count * 32)).items():
        said = of_reference_program(data_bytes)
        print(f"{data_bytes} bytes of data: {units:,} compute units, at most {said:,}")
        assert units <= said
        assert units * 6 <= limit_for(said) * 5
