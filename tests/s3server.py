"""A real S3 server for a test: versitygw over a temporary folder, on a free port of the loopback interface."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.localnet.ports import free_ports
from tests.needs import needs

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
START_S = 60.0


@dataclass(frozen=True)
class S3Server:
    port: int
    folder: Path
    """Each folder in it is a bucket."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> Mapping[str, str]:
        """Environment variables for boto3's credential chain."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def make_bucket(self, name: str) -> None:
        (self.folder / name).mkdir()


@contextmanager
def running_s3_server(folder: Path) -> Iterator[S3Server]:
    """Runs the server until the block ends. Without versitygw on the PATH the test is skipped."""
    program = needs("versitygw", "no real S3 server to test against")
    server = S3Server(free_ports(1), folder)
    keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    command = [program, "--port", f"127.0.0.1:{server.port}", "--quiet", "posix", folder]
    process = subprocess.Popen(
        command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder.parent
    )
    try:
        _wait_until_open(server.port, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        assert process.poll() is None, f"versitygw ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"versitygw did not listen on port {port} within {START_S} s")
