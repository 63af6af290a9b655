"""The worker process: `python -m compute.worker`, started by the API process only.

What locks the process belongs before the import of torch, while it has one thread.
"""

import argparse
import ctypes
import os
import signal
import socket
import sys

from compute.shared_memory import map_shared
from compute.worker.wire import Limits, send_packet
from shared.errors import ConfigurationError

_PR_SET_PDEATHSIG = 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compute.worker", description=__doc__)
    for name in ("socket", "stop-page", "stop-page-bytes", "parent", "threads", "max-running"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("max-graph-bytes", "max-graph-nodes", "max-task-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", required=True)
    return parser.parse_args()


def _die_with(parent: int) -> None:
    """Not to outlive the API process, even while an operator holds every thread."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    arguments = _arguments()
    _die_with(arguments.parent)
    sock = socket.socket(fileno=arguments.socket)
    stop_page = map_shared(arguments.stop_page, arguments.stop_page_bytes)
    limits = Limits(arguments.max_graph_bytes, arguments.max_graph_nodes, arguments.max_task_bytes)

    import torch  # noqa: PLC0415

    from compute.worker.device import choose_device, describe, probe  # noqa: PLC0415
    from compute.worker.loop import WorkerLoop, warm_up  # noqa: PLC0415

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        device = choose_device(arguments.device)
        probe(device)
        warm_up(device, limits)
    except (ConfigurationError, RuntimeError) as exc:
        send_packet(sock, {"failed": str(exc)[:1_000]})
        sys.exit(1)
    send_packet(sock, {"device": describe(device)})
    WorkerLoop(sock, stop_page, device, limits, arguments.max_running).serve()
    # Threads may still compute for a side that is gone.
    os._exit(0)


if __name__ == "__main__":
    main()
