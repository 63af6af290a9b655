"""An object on S3 to a tensor on the device, as compute does it, beside a bare copy from pinned memory."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace

import torch

from bench.compute.objects import OBJECT, path_of, weights_object
from bench.compute.s3 import median_gb_per_s, our_get, our_storage, serving
from bench.cuda.device import DEVICE, device_name
from bench.lines import Line
from compute.shared_memory import SharedBuffer
from compute.specs import DType, TensorSpec
from compute.worker.loop import tensors_in

SIZE, TINY_SIZE = 512 << 20, 16 << 20
ROUNDS = 5
LINES = (
    Line("S3 to a tensor on the device, beside a copy from pinned memory", "GB/s", None),
    Line("shared memory to the device as a worker copies, beside pinned memory", "GB/s", None),
)


async def measure(*, is_tiny: bool) -> list[Line]:
    size = TINY_SIZE if is_tiny else SIZE
    pinned = torch.ones(size, dtype=torch.uint8).pin_memory()
    specs = (TensorSpec(DType.UINT8, (size,)),)
    with (
        serving({path_of(OBJECT): weights_object(specs[0])}) as port,
        our_storage(port) as storage,
        closing(SharedBuffer("object", size)) as buffer,
    ):

        def copied() -> None:
            (given,) = tensors_in(buffer.view, specs)
            given.to(DEVICE)
            torch.cuda.synchronize(DEVICE)

        def from_pinned() -> None:
            pinned.to(DEVICE, non_blocking=True)
            torch.cuda.synchronize(DEVICE)

        async def fetched() -> None:
            await our_get(storage, OBJECT, buffer.view)
            await asyncio.to_thread(copied)

        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "fetched": fetched,
            "copied": lambda: asyncio.to_thread(copied),
            "pinned": lambda: asyncio.to_thread(from_pinned),
        }
        for way in ways.values():  # pages and the device's memory are taken once
            await way()
        speeds = await median_gb_per_s(ways, size, 1 if is_tiny else ROUNDS)
    unit = f"GB/s, {size >> 20} MiB, {device_name()}"
    return [
        replace(line, unit=unit, ours=speeds[way], bare=speeds["pinned"])
        for line, way in zip(LINES, ("fetched", "copied"), strict=True)
    ]
