"""The compute process: `python -m compute`. Startup, life, shutdown; no torch here."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop
from pydantic import ValidationError

from compute.app import create_app
from compute.outputs import check_output_prefix
from compute.readiness import ReadinessProbes
from compute.results import Results
from compute.service import Service
from compute.settings import ComputeSettings
from compute.storage import open_storage
from compute.worker.launcher import worker_options
from compute.worker.pool import WorkerPool
from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.logs import configure_logging, fields
from shared.token import read_token

log = logging.getLogger("compute")

BACKLOG = 1024
LAST_ANSWERS_S = 5
"""After the last task has ended, so long may answers that are under way take."""
FORCED_EXIT = 1


def main() -> None:
    try:
        settings = ComputeSettings()
        configure_logging(settings.log_level)
        check_output_prefix(settings.output_prefix)
        token = read_token(settings.token_file)
        listening = _listen(settings)
    except ValidationError as exc:
        sys.exit(f"compute does not start; the settings are wrong: {exc}")
    except ConfigurationError as exc:
        sys.exit(f"compute does not start: {exc}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run(settings, token, listening))
        except ConfigurationError as exc:
            sys.exit(f"compute does not start: {exc}")


async def run(settings: ComputeSettings, token: str, listening: socket.socket) -> None:
    stop = _stop_signal()
    clock = SystemClock()
    results = Results(settings.state_dir)
    storage = open_storage(settings)
    pool = WorkerPool(worker_options(settings), plan_limit_s=settings.plan_limit_s)
    service = Service(settings, storage, pool, results, clock)
    readiness = ReadinessProbes(settings, storage, pool, service, clock)
    server = _Server(_server_config(create_app(service, readiness, token)))
    try:
        async with asyncio.TaskGroup() as background:
            supports = [background.create_task(pool.serve()), background.create_task(readiness.serve())]
            async with service.running():
                serving = background.create_task(server.serve(sockets=[listening]))
                host, port = listening.getsockname()[:2]
                log.info("compute listens", extra=fields(host=host, port=port, pid=os.getpid()))
                await stop.wait()
                log.info("compute stops", extra=fields(unfinished=service.unfinished_count()))
                await service.stop(settings.grace_s)
                server.should_exit = True
                await serving
            for support in supports:
                support.cancel()
    finally:
        storage.close()
        await results.close()


class _Server(uvicorn.Server):
    """Signals are ours to answer: while the last tasks end, the API goes on answering."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one ends the process at once, and the worker with it."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(FORCED_EXIT)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def _listen(settings: ComputeSettings) -> socket.socket:
    address = (settings.host, settings.compute_port)
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.compute_port}: {exc.strerror}; "
            "set SPLITUP_HOST or SPLITUP_COMPUTE_PORT"
        ) from exc


def _server_config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type] # FastAPI is an ASGI application; uvicorn's type for one is narrower
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )


if __name__ == "__main__":
    main()
