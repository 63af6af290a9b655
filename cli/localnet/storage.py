"""Storage of a local network: folders, or an S3 server over one."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from cli.localnet.child import running
from cli.localnet.ports import free_ports
from shared.errors import LocalNetworkFailed

StorageKind = Literal["file", "s3"]
BUCKET: Final = "splitup"
ACCESS_KEY: Final = "splitup-local"
SECRET_KEY: Final = "splitup-local-secret"  # noqa: S105 # of a server that only this machine reaches
START_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """`tensors` is the prefix of the requesters' folders, `outputs` that of the node's; `env` leads to them."""

    name: str
    tensors: str
    outputs: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def prefixes(self) -> str:
        return f"{self.tensors},{self.outputs}"


@asynccontextmanager
async def local_storage(
    kind: StorageKind, folder: Path, endpoint: "Endpoint | None"
) -> AsyncIterator[LocalStorage]:
    """Storage below `folder`; for `s3` at `endpoint`, else by versitygw or minio, whichever is on the PATH."""
    if kind == "file":
        yield _folders(folder)
    elif endpoint is not None:
        yield _in_bucket(f"S3 at {endpoint.url}", endpoint.prefix, {"SPLITUP_S3_ENDPOINT_URL": endpoint.url})
    else:
        async with _s3_server(folder) as storage:
            yield storage


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An S3 server that runs already; credentials come from the environment. `prefix` is `s3://bucket[/key]`."""

    url: str
    prefix: str


def _folders(folder: Path) -> LocalStorage:
    for name in ("tensors", "outputs"):
        (folder / name).mkdir()
    return LocalStorage("a folder", f"file://{folder}/tensors", f"file://{folder}/outputs")


def _in_bucket(name: str, prefix: str, env: Mapping[str, str]) -> LocalStorage:
    return LocalStorage(name, f"{prefix}/tensors", f"{prefix}/outputs", env)


@asynccontextmanager
async def _s3_server(folder: Path) -> AsyncIterator[LocalStorage]:
    port = free_ports(1)
    name, command, keys = _server(folder, port)
    # Both servers take a folder for a bucket.
    (folder / BUCKET).mkdir()
    env = {
        "SPLITUP_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }

    async def listens() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return await asyncio.to_thread(probe.connect_ex, ("127.0.0.1", port)) == 0

    async with running(name, command, folder.parent / "s3.log", keys, cwd=folder.parent) as child:
        await child.until(listens, "it does not listen", START_S)
        yield _in_bucket(name, f"s3://{BUCKET}", env)


def _server(folder: Path, port: int) -> tuple[str, list[str], dict[str, str]]:
    """Name, command and environment of the S3 server that this machine has."""
    address = f"127.0.0.1:{port}"
    if versitygw := shutil.which("versitygw"):
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        return "versitygw", [versitygw, "--port", address, "--quiet", "posix", str(folder)], keys
    if minio := shutil.which("minio"):
        keys = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "HOME": str(folder.parent)}
        return "minio", [minio, "server", "--quiet", "--address", address, str(folder)], keys
    raise LocalNetworkFailed(
        "S3 storage needs versitygw or minio on the PATH, or SPLITUP_S3_ENDPOINT_URL and SPLITUP_S3_PREFIX "
        "(s3://bucket) with credentials in the environment"
    )
