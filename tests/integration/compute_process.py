"""A real compute process on a folder of tensors, and what the tests put there."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from cli.localnet.ports import free_ports
from compute.safetensors_header import encode_header
from compute.specs import TensorSpec

TOKEN = "t" * 40
REQUESTER = "So11111111111111111111111111111111111111112"
FORMAT = {"format": "splitup-task-graph", "version": 1}


class ComputeProcess:
    """`python -m compute`, in a folder of its own that outlives it, so that it can be started again."""

    def __init__(self, folder: Path, *, module: str = "compute", **settings: object) -> None:
        self.folder = folder
        self._module = module
        self.tensors = folder / "tensors"
        self.outputs = folder / "outputs"
        for made in (self.tensors / REQUESTER, self.tensors / "public", self.outputs):
            made.mkdir(parents=True, exist_ok=True)
        token_file = folder / "token"
        token_file.write_text(TOKEN)
        token_file.chmod(0o600)
        # Not one that the system may give to a connection while the process is down.
        self.port = free_ports(1)
        self._environment = {
            **os.environ,
            "SPLITUP_TOKEN_FILE": str(token_file),
            "SPLITUP_STATE_DIR": str(folder / "state"),
            "SPLITUP_ALLOWED_PREFIXES": f"file://{self.tensors},file://{self.outputs}",
            "SPLITUP_OUTPUT_PREFIX": f"file://{self.outputs}",
            "SPLITUP_COMPUTE_PORT": str(self.port),
            "SPLITUP_DEVICE": "cpu",
            "SPLITUP_THREADS": "1",
            **{f"SPLITUP_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.http = self.client()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: object) -> None:
        environment = self._environment | {
            f"SPLITUP_{name.upper()}": str(value) for name, value in settings.items()
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", self._module], env=environment, stderr=log)
        until(lambda: self._answers(), "the API answers")

    def ready(self) -> None:
        until(lambda: self.http.get("/ready").status_code == 200, "compute is ready", 100)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def worker_pids(self) -> list[int]:
        """Of the workers that have taken a task and live; those that wait for one are not among them."""
        return [pid for pid in self.forked_pids() if name_of(pid) == "splitup-worker"]

    def busy_workers(self) -> list[int]:
        """The same, once there is one: a task is called running a moment before its worker has heard of it."""
        until(self.worker_pids, "a worker has taken a task")
        return self.worker_pids()

    def forked_pids(self) -> list[int]:
        """Of the fork server and of all that it made and that lives: workers, planners, and those that wait."""
        assert self.process is not None
        parents = {int(folder.name): parent_of(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
        servers = [pid for pid, parent in parents.items() if parent == self.process.pid]
        return servers + [pid for pid, parent in parents.items() if parent in servers]

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(100)

    # ---- what lies in storage ----

    def put_tensor(self, name: str, spec: TensorSpec, data: bytes, folder: str = REQUESTER) -> str:
        """The URI of a new object with one tensor."""
        path = self.tensors / folder / f"{name}.safetensors"
        _put(path, encode_header([("0", spec)]) + data)
        return f"file://{path}"

    def put_package(self, graph: dict[str, object], folder: str = REQUESTER) -> str:
        """The modelId of a graph in the requester's folder, or in another."""
        data = json.dumps(FORMAT | graph).encode()
        model_id = hashlib.sha256(data).hexdigest()
        _put(self.tensors / folder / f"{model_id}.json", data)
        return model_id

    def output_files(self) -> list[Path]:
        return sorted(path for path in self.outputs.rglob("*") if path.is_file())

    # ---- calls ----

    def client(self) -> httpx.Client:
        """One more beside `http`."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=70
        )

    def post(self, body: dict[str, object], **arguments: object) -> httpx.Response:
        return self.http.post("/api/task", json=body, **arguments)

    def status(
        self, body: dict[str, object], extensions: dict[str, object] | None = None, **parameters: object
    ) -> httpx.Response:
        """`extensions` are httpx's."""
        return self.http.get(_path(body), params=parameters, extensions=extensions)

    def delete(self, body: dict[str, object], **parameters: object) -> httpx.Response:
        return self.http.delete(_path(body), params={"attempt": body["attempt"], **parameters})

    def ended(self, body: dict[str, object]) -> dict:
        """The status once there is a result."""
        answer = self.status(body, wait=60).json()
        assert answer["stage"] in ("done", "failed"), answer
        return answer

    def reach(self, body: dict[str, object], stage: str) -> None:
        until(lambda: self.status(body).json().get("stage") == stage, f"the task is {stage}", 60)


def _put(path: Path, data: bytes) -> None:
    """Left alone where it lies already: a task that runs may be reading it, and would find that it has changed."""
    if path.exists() and path.read_bytes() == data:
        return
    path.write_bytes(data)


def _path(body: dict[str, object]) -> str:
    return f"/api/task/{body['executionId']}/{body['taskId']}"


@contextmanager
def compute_process(folder: Path, **settings: object) -> Iterator[ComputeProcess]:
    """Started and ready; at the end gone, with its workers."""
    compute = ComputeProcess(folder, **settings)
    compute.start()
    try:
        compute.ready()
        yield compute
    finally:
        compute.http.close()
        if compute.process is not None and compute.process.poll() is None:
            compute.kill()


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if parent_of(pid) is not None]


def parent_of(pid: int) -> int | None:
    """None where there is no such process, or only what its parent has not asked about yet."""
    try:
        state, parent = stat_of(pid)[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def name_of(pid: int) -> str | None:
    """As `ps` shows it; None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def cpu_s(pid: int) -> float:
    """What it has computed until now; waiting in line for a core is not in it."""
    return sum(map(int, stat_of(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def stat_of(pid: int) -> list[str]:
    """The kernel's fields that follow the name: state, parent, … Raises OSError where there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def until(true, what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)
