"""S3 to tensor by TLS, beside two bare TLS sockets: what OpenSSL decrypts is the limit."""

import asyncio
import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.compute.objects import OBJECT, path_of, weights_object
from bench.compute.s3 import bare_get, median_gb_per_s, our_get, our_storage, serving
from bench.lines import Goal, Line
from bench.machine import machine
from compute.specs import DType, TensorSpec
from tests.certificate import self_signed

SIZE, TINY_SIZE = 256 << 20, 16 << 20
ROUNDS = 5
TRUSTED = "AWS_CA_BUNDLE"
LIMIT = "The server encrypts on the same cores: whoever of the two waits, the other one's threads have them."


async def measure(*, is_tiny: bool) -> list[Line]:
    """Nothing without `openssl` on the PATH, which makes the certificate."""
    if shutil.which("openssl") is None:
        return []
    tensor_bytes = TINY_SIZE if is_tiny else SIZE
    descriptor = weights_object(TensorSpec(DType.UINT8, (tensor_bytes,)))
    size = os.fstat(descriptor).st_size
    view = memoryview(bytearray(b"\1") * size)
    with TemporaryDirectory() as folder:
        certificate, key = self_signed(Path(folder))
        trusting = ssl.create_default_context(cafile=str(certificate))
        with (
            _trusted(certificate),
            serving({path_of(OBJECT): descriptor}, (certificate, key)) as port,
            our_storage(port, "https") as storage,
        ):
            speeds = await median_gb_per_s(
                {
                    "ours": lambda: our_get(storage, OBJECT, view[:tensor_bytes]),
                    "bare": lambda: asyncio.to_thread(bare_get, port, view, trusting),
                },
                size,
                1 if is_tiny else ROUNDS,
            )
    unit = f"GB/s, {tensor_bytes >> 20} MiB, {machine()}"
    goal = Goal("ratio", ">=", 0.9)
    return [Line("S3 to tensor by TLS", unit, speeds["ours"], bare=speeds["bare"], goal=goal, limit=LIMIT)]


@contextmanager
def _trusted(certificate: Path) -> Iterator[None]:
    before = os.environ.get(TRUSTED)
    os.environ[TRUSTED] = str(certificate)
    try:
        yield
    finally:
        if before is None:
            del os.environ[TRUSTED]
        else:
            os.environ[TRUSTED] = before
