"""Starts a worker process: what it is given is here, and nothing else."""

import asyncio
import os
import socket
import sys
from dataclasses import dataclass

from compute.settings import ComputeSettings
from compute.shared_memory import SharedBuffer
from compute.worker.process import WorkerFailed, WorkerProcess
from compute.worker.wire import Limits

START_S = 120.0
"""A cold import of torch on a slow disk, and the start of a CUDA driver, take tens of seconds."""
STOP_SLOTS = 256
"""More than there are requests at once."""

_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME")
_ENVIRONMENT_PREFIXES = ("PYTHON", "CUDA_", "NVIDIA_", "TORCH_", "PYTORCH_", "OMP_", "MKL_", "GOMP_", "KMP_")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    device: str
    threads: int
    """Threads of torch for one operator; 0 is torch's own choice."""
    max_running: int
    limits: Limits


def worker_options(settings: ComputeSettings) -> WorkerOptions:
    limits = Limits(settings.max_graph_bytes, settings.max_graph_nodes, settings.max_task_bytes)
    return WorkerOptions(settings.device, settings.threads, settings.max_running, limits)


async def launch(options: WorkerOptions) -> tuple[WorkerProcess, str]:
    """A worker that is ready, and the device it computes on. Raises WorkerFailed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    stop_page = SharedBuffer("stop", STOP_SLOTS)
    try:
        process = await asyncio.create_subprocess_exec(
            *_command(options, theirs.fileno(), stop_page.fd),
            pass_fds=(theirs.fileno(), stop_page.fd),
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            # Signals to our group, such as Ctrl-C, are ours to answer.
            start_new_session=True,
        )
    except OSError as exc:
        ours.close()
        raise WorkerFailed(f"{sys.executable} cannot be started: {exc.strerror}") from exc
    finally:
        theirs.close()
        page_view = stop_page.view
        stop_page.close()
    worker = WorkerProcess(process, ours, page_view)
    try:
        async with asyncio.timeout(START_S):
            return worker, await worker.greeting()
    except TimeoutError as exc:
        await worker.kill()
        raise WorkerFailed(f"the worker was not ready within {START_S:.0f} s") from exc
    except BaseException:  # also when cancelled: no process is left behind
        await worker.kill()
        raise


def _command(options: WorkerOptions, socket_fd: int, stop_page_fd: int) -> list[str]:
    values = {
        "socket": socket_fd,
        "stop-page": stop_page_fd,
        "stop-page-bytes": STOP_SLOTS,
        "parent": os.getpid(),
        "threads": options.threads,
        "max-running": options.max_running,
        "max-graph-bytes": options.limits.max_graph_bytes,
        "max-graph-nodes": options.limits.max_graph_nodes,
        "max-task-bytes": options.limits.max_task_bytes,
        "device": options.device,
    }
    return [sys.executable, "-m", "compute.worker", *(f"--{name}={value}" for name, value in values.items())]


def _environment() -> dict[str, str]:
    """What torch and the driver read. No credentials: storage is the API process's business alone."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
