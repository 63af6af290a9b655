"""Other clients of S3 on the same server: boto3, and those that are measured where they are installed."""

import asyncio
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any, Final

from bench.compute.objects import OBJECT
from bench.compute.s3 import CREDENTIALS, Way
from bench.lines import Goal, Line, not_measured
from bench.peers import is_installed

PATIENCE_S: Final = 120.0
"""For one round: a peer that does not come to an end is told of as one that failed."""


class Peer:
    """A peer's way. Once it has failed it is left alone, and its error is kept."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.failure: Exception | None = None

    async def __call__(self) -> None:
        if self.failure is None:
            try:
                await self._way()
            except Exception as exc:  # noqa: BLE001 # another system may raise anything
                self.failure = exc


def beside(
    line: Line, peers: Mapping[str, Peer], speeds: Mapping[str, float], goals: Mapping[str, Goal]
) -> list[Line]:
    """Our line beside each peer, or why there is none."""
    lines = []
    for name, peer in peers.items():
        what = f"{line.line} beside {name}"
        if peer.failure is not None:
            lines.append(not_measured(what, peer.failure))
        else:
            lines.append(Line(what, line.unit, line.ours, peer=speeds[name], goal=goals.get(name)))
    return lines


def boto3_client(port: int) -> Any:
    import boto3  # noqa: PLC0415 # a peer only
    from botocore.config import Config  # noqa: PLC0415

    os.environ.update(CREDENTIALS)
    config = Config(s3={"addressing_style": "path"})
    return boto3.Session().client("s3", endpoint_url=_url(port), region_name="us-east-1", config=config)


@contextmanager
def readers(port: int, view: memoryview) -> Iterator[dict[str, Peer]]:
    """Each reads the object on that server whole: into the view, or as it does by itself."""
    client = boto3_client(port)
    peers = {
        "boto3's default": Peer(
            lambda: asyncio.to_thread(client.download_fileobj, OBJECT.bucket, OBJECT.key, _Target(view))
        )
    }
    if is_installed("obstore"):
        store = _obstore(port)
        peers["obstore"] = Peer(lambda: asyncio.to_thread(_obstore_get, store, view))
    if not is_installed("runai_model_streamer_s3"):
        yield peers
        return
    with _runai_reader(port) as reader:
        peers["runai-model-streamer"] = Peer(lambda: asyncio.to_thread(reader.read))
        yield peers


class _Target:
    """What boto3 writes a download to: the buffer, at the place it seeks to."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def seek(self, offset: int, _: int = 0) -> int:
        self._at = offset
        return offset

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:
        self._view[self._at : self._at + len(data)] = data
        self._at += len(data)
        return len(data)


def _obstore(port: int) -> Any:
    from obstore.store import S3Store  # noqa: PLC0415

    return S3Store(
        "bench",
        endpoint=_url(port),
        virtual_hosted_style_request=False,
        access_key_id="bench",
        secret_access_key="bench",  # noqa: S106 # of a server that checks none
        region="us-east-1",
        client_options={"allow_http": True},
    )


def _obstore_get(store: Any, view: memoryview) -> None:
    at = 0
    for chunk in store.get(OBJECT.key).stream(min_chunk_size=8 << 20):
        piece = memoryview(chunk)
        view[at : at + len(piece)] = piece
        at += len(piece)


class _RunaiReader:
    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._process = process
        self._log = log

    def read(self) -> None:
        """Once more, whole. Raises RuntimeError where the process ends or says nothing."""
        assert self._process.stdin is not None
        self._answer()  # that it is ready, which it says while nobody waits for it
        self._process.stdin.write(b"\n")
        self._answer()

    def _answer(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], PATIENCE_S)[0]:
            raise RuntimeError(f"nothing within {PATIENCE_S:.0f} s")
        if not stdout.readline():
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"it ended: {said[-1] if said else 'without a word'}")


@contextmanager
def _runai_reader(port: int) -> Iterator[_RunaiReader]:
    environment = {
        **os.environ,
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": _url(port),
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
    }
    command = [sys.executable, "-m", "bench.compute.runai_reader", f"s3://{OBJECT.bucket}/{OBJECT.key}"]
    pipe = subprocess.PIPE
    with (
        TemporaryFile() as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, bufsize=0, env=environment) as process,
    ):
        try:
            select.select(
                [process.stdout], [], [], PATIENCE_S
            )  # its imports take cores from whom is measured first
            yield _RunaiReader(process, log)
        finally:
            process.kill()


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"
