"""Starts the fork server of workers: what it is given is here, and nothing else."""

import asyncio
import os
import socket
import sys

from compute.worker.forks import ForkServer
from compute.worker.options import WorkerOptions
from compute.worker.process import WorkerFailed
from compute.worker.words import Words

START_S = 120.0
"""A cold import of torch on a slow disk takes tens of seconds."""

_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME")
_ENVIRONMENT_PREFIXES = (
    "PYTHON",
    "CUDA_",
    "CUBLAS_",
    "CUDNN_",
    "NVIDIA_",
    "TORCH_",
    "PYTORCH_",
    "OMP_",
    "MKL_",
    "GOMP_",
    "KMP_",
)

_UNLESS_SET = {
    # Eight buffers of 4 MiB. Of no fixed size, cuBLAS's memory may change how it adds, and so the bytes of a product.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}

_FOR_A_LOCKED_IMPORT = {
    # numpy's own threads, which nothing here uses, would begin with its import; a fork must have one thread.
    "OPENBLAS_NUM_THREADS": "1",
    # Torch's compiler makes sure of its cache when it is imported. A folder that is there will do: nothing is compiled.
    "TORCHINDUCTOR_CACHE_DIR": "/",
}


async def launch(options: WorkerOptions) -> ForkServer:
    """A fork server that is ready. Raises WorkerFailed."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as exc:
        raise WorkerFailed(f"no socket for a fork server: {exc.strerror}") from exc
    ours.setblocking(False)
    try:
        heard, written = os.pipe2(os.O_CLOEXEC)
    except OSError as exc:
        ours.close()
        theirs.close()
        raise WorkerFailed(f"no pipe for a fork server: {exc.strerror}") from exc
    # A worker that fills the pipe must not hold up the others, which write there too. None can change it back.
    os.set_blocking(written, False)
    try:
        process = await asyncio.create_subprocess_exec(
            *_command(options, theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            # A pipe, and not our own log: what a worker writes there is not ours.
            stdout=written,
            stderr=written,
            # Signals to our group, such as Ctrl-C, are ours to answer.
            start_new_session=True,
        )
    except OSError as exc:
        ours.close()
        os.close(heard)
        raise WorkerFailed(f"{sys.executable} cannot be started: {exc.strerror}") from exc
    finally:
        theirs.close()
        os.close(written)
    server = ForkServer(process, ours, Words(heard))
    try:
        async with asyncio.timeout(START_S):
            await server.ready()
    except TimeoutError as exc:
        await server.kill()
        raise WorkerFailed(f"torch was not imported within {START_S:.0f} s") from exc
    except BaseException:  # also when cancelled: no process is left behind
        await server.kill()
        raise
    return server


def _command(options: WorkerOptions, control_fd: int) -> list[str]:
    values = {
        "control": control_fd,
        "parent": os.getpid(),
        "threads": options.threads,
        "max-running": options.max_running,
        "memory-bytes": options.memory_bytes,
        "max-graph-bytes": options.limits.max_graph_bytes,
        "max-graph-nodes": options.limits.max_graph_nodes,
        "max-task-bytes": options.limits.max_task_bytes,
        "device": options.device,
        "sandbox": options.sandbox,
    }
    return [sys.executable, "-m", "compute.worker", *(f"--{name}={value}" for name, value in values.items())]


def _environment() -> dict[str, str]:
    """What torch and the driver read. No credentials: storage is the API process's business alone."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    return _UNLESS_SET | given | _FOR_A_LOCKED_IMPORT
