"""What the node's settings and its machine mean for a worker."""

from pathlib import Path

from compute.settings import ComputeSettings
from compute.worker.options import WorkerOptions
from compute.worker.wire import Limits

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def worker_options(settings: ComputeSettings) -> WorkerOptions:
    limits = Limits(settings.max_graph_bytes, settings.max_graph_nodes, settings.max_task_bytes)
    # Every run may hold what a plan allows, its outputs once more, and as much workspace.
    wanted = settings.max_running * 2 * (settings.max_task_bytes + settings.max_output_bytes)
    return WorkerOptions(
        settings.device,
        settings.threads,
        settings.max_running,
        limits,
        min(wanted, _machine_bytes()),
        settings.sandbox,
    )


def _machine_bytes() -> int:
    """The memory of this machine or, where that is less, of this container."""
    total = next(
        int(line.split()[1]) << 10
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        if line.startswith("MemTotal:")
    )
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total
