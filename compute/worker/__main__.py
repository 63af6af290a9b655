"""The fork server of workers: `python -m compute.worker`, started by the API process only.

It locks itself while it has one thread, then imports torch, and forks workers and planners, which lock themselves
further before they take a request. It never sees a request itself.
"""

import argparse
import socket
import sys
from dataclasses import replace
from typing import get_args

from compute.worker.lock.files import has_cuda_devices
from compute.worker.lock.identity import die_with, go_first_without_memory
from compute.worker.lock.kernel import name_this_process
from compute.worker.lock.sandbox import Lock, SandboxMode
from compute.worker.options import WorkerOptions
from compute.worker.wire import Limits, send_packet


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compute.worker", description=__doc__)
    for name in ("control", "parent", "threads", "max-running", "memory-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("max-graph-bytes", "max-graph-nodes", "max-task-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--sandbox", choices=get_args(SandboxMode), required=True)
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    die_with(arguments.parent)
    name_this_process("splitup-forks")
    go_first_without_memory()
    limits = Limits(arguments.max_graph_bytes, arguments.max_graph_nodes, arguments.max_task_bytes)
    options = WorkerOptions(
        arguments.device,
        arguments.threads,
        arguments.max_running,
        limits,
        arguments.memory_bytes,
        arguments.sandbox,
    )
    control = socket.socket(fileno=arguments.control)
    # Not asked of torch: the driver must not wake before the fork.
    may_use_cuda = options.device != "cpu" and has_cuda_devices()
    lock = Lock(options.sandbox)
    lock.before_imports({arguments.control}, may_use_cuda=may_use_cuda)

    from compute.worker.device import sees_cuda  # noqa: PLC0415
    from compute.worker.fork_server import serve  # noqa: PLC0415
    from compute.worker.warm_up import import_all  # noqa: PLC0415

    try:
        import_all(limits)
    except RuntimeError as exc:
        send_packet(control, {"failed": str(exc)[:1_000]})
        sys.exit(1)
    # Device nodes alone are no reason for the wider lock: torch or the driver may not be made for them.
    cuda = may_use_cuda and sees_cuda()
    if options.device == "auto":
        options = replace(options, device="cuda:0" if cuda else "cpu")
    send_packet(control, {"ready": True})
    serve(control, options, lock, cuda=cuda)


if __name__ == "__main__":
    main()
