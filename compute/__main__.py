"""The compute process: `python -m compute`. Startup, life, shutdown; no torch here."""

import asyncio
import logging
import os
import socket
import sys

import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

from compute.app import create_app
from compute.buffer_pool import BufferPool
from compute.input_loader import InputLoader
from compute.memory import HostMemory
from compute.outputs import check_output_prefix
from compute.readiness import ReadinessProbes
from compute.results import Results
from compute.service import Service
from compute.settings import ComputeSettings
from compute.storage import open_storage
from compute.weights.cache import WeightsCache
from compute.weights.preload import Preload
from compute.worker.by_settings import worker_options
from compute.worker.lock.sandbox import check_sandbox
from compute.worker.pool import WorkerPool
from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.logs import configure_logging, fields
from shared.serving import listen, server, stop_signal
from shared.settings_errors import told
from shared.token import read_token

log = logging.getLogger("compute")


def main() -> None:
    try:
        settings = ComputeSettings()
        configure_logging(settings.log_level)
        check_output_prefix(settings.output_prefix)
        gaps = check_sandbox(settings.sandbox)
        if gaps:
            log.error("the worker will not be locked", extra=fields(gaps=gaps))
        token = read_token(settings.token_file)
        listening = listen(settings.host, settings.compute_port, "SPLITUP_COMPUTE_PORT")
    except ValidationError as exc:
        sys.exit(f"compute does not start; the settings are wrong: {told(exc)}")
    except SettingsError as exc:  # no JSON where JSON must be; it names the field, not what the field holds
        sys.exit(f"compute does not start; the settings are wrong: {exc}")
    except ConfigurationError as exc:
        sys.exit(f"compute does not start: {exc}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run(settings, token, listening))
        except ConfigurationError as exc:
            sys.exit(f"compute does not start: {exc}")
    # Python would wait for each thread, and one of storage's may wait for a server that has fallen silent. All
    # that must last is on disk.
    logging.shutdown()
    os._exit(0)


async def run(settings: ComputeSettings, token: str, listening: socket.socket) -> None:
    stop = stop_signal()
    clock = SystemClock()
    results = Results(settings.state_dir)
    storage = open_storage(settings)
    pool = WorkerPool(
        worker_options(settings),
        plan_limit_s=settings.plan_limit_s,
        run_limit_s=settings.run_limit_s,
        device_weights_bytes=settings.device_weights_bytes,
    )
    weights = WeightsCache(settings.weights_cache_bytes)
    buffers = BufferPool(settings.buffer_pool_bytes)
    memory = HostMemory(weights.reclaim, settings.memory_bytes or None, pool=buffers)
    loader = InputLoader(storage, memory, weights)
    service = Service(settings, storage, pool, results, clock, loader)
    preload = Preload(settings, storage, loader, weights, clock)
    readiness = ReadinessProbes(settings, storage, pool, service, memory, preload, clock)
    serving = server(create_app(service, readiness, token))
    try:
        async with asyncio.TaskGroup() as background:
            supports = [
                background.create_task(support) for support in (pool.serve(), readiness.serve(), preload.run())
            ]
            async with service.running():
                answering = background.create_task(serving.serve(sockets=[listening]))
                host, port = listening.getsockname()[:2]
                log.info("compute listens", extra=fields(host=host, port=port, pid=os.getpid()))
                await stop.wait()
                log.info("compute stops", extra=fields(unfinished=service.unfinished_count()))
                await service.stop(settings.grace_s)
                serving.should_exit = True
                await answering
            for support in supports:
                support.cancel()
    finally:
        storage.close()
        await results.close()


if __name__ == "__main__":
    main()
