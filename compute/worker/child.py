"""What a forked process does: lock itself as its role needs, greet, serve until the API process is gone."""

import os
import socket
from typing import NoReturn

import torch

from compute.shared_memory import map_shared
from compute.worker.device import choose_device, describe, free_bytes, settle
from compute.worker.lock.calls import Profile
from compute.worker.lock.identity import die_with
from compute.worker.lock.kernel import name_this_process
from compute.worker.lock.sandbox import Lock, Sandbox
from compute.worker.loop import OPERATIONS, WorkerLoop
from compute.worker.options import WorkerOptions
from compute.worker.warm_up import TORCHS_OWN_THREADS, warm_up_planner, warm_up_worker
from compute.worker.wire import STOP_SLOTS, Role, send_packet
from shared.errors import ConfigurationError

PLANNER_BYTES = 2 << 30
"""A plan holds no tensor's bytes."""


def serve_as(role: Role, fds: list[int], options: WorkerOptions, lock: Lock, *, cuda: bool) -> NoReturn:
    """The whole life of this process."""
    server = os.getppid()
    die_with(server)
    socket_fd, page_fd = fds
    sock = socket.socket(fileno=socket_fd)
    stop_page = map_shared(page_fd, STOP_SLOTS, writable=False)
    os.close(page_fd)
    try:
        loop, greeting = _become(role, sock, stop_page, options, lock, server, cuda=cuda and role is Role.WORKER)
    except (ConfigurationError, RuntimeError, OSError) as exc:
        send_packet(sock, {"failed": str(exc)[:1_000]})
        os._exit(1)
    send_packet(sock, greeting)
    loop.serve()
    # Threads may still compute for a side that is gone.
    os._exit(0)


def _become(
    role: Role,
    sock: socket.socket,
    stop_page: memoryview,
    options: WorkerOptions,
    lock: Lock,
    server: int,
    *,
    cuda: bool,
) -> tuple[WorkerLoop, dict[str, object]]:
    is_worker = role is Role.WORKER
    name_this_process("splitup-starts")
    # With CUDA the driver reserves more address space than any machine has memory.
    memory_bytes = None if cuda else options.memory_bytes if is_worker else PLANNER_BYTES
    # Of a planner too, though it computes nothing: what a run takes depends on it.
    threads = options.threads or TORCHS_OWN_THREADS
    # Each run has threads of its own.
    all_threads = threads * (options.max_running if is_worker else 1)
    lock.before_threads(server, cuda=cuda, memory_bytes=memory_bytes, threads=all_threads)
    torch.set_num_threads(threads)
    device = choose_device(options.device) if is_worker else torch.device("cpu")
    settle(device)
    loop = WorkerLoop(sock, stop_page, device, options.limits, OPERATIONS[role], options.max_running)
    if is_worker:
        loop.start_threads(lambda: warm_up_worker(device, options.limits))
    else:
        loop.start_threads(lambda: warm_up_planner(options.limits))
    profile = Profile.CUDA if cuda else Profile.CPU if is_worker else Profile.PLANNER
    sandbox = lock.after_warm_up(profile)
    _hold_to(options, sandbox)
    # Only what is locked has a name to be asked by.
    name_this_process("splitup-spare" if is_worker else "splitup-planner")
    return loop, {
        "device": describe(device),
        "onHost": device.type == "cpu",
        "freeBytes": free_bytes(device),
        "sandbox": {"held": sandbox.held, "gaps": sandbox.gaps},
    }


def _hold_to(options: WorkerOptions, sandbox: Sandbox) -> None:
    if options.sandbox == "required" and sandbox.core_gaps:
        raise ConfigurationError(f"the worker is not locked as SPLITUP_SANDBOX=required asks: {sandbox}")
