"""What the node's settings and its machine mean for a worker."""

from compute.machine import Machine
from compute.settings import ComputeSettings
from compute.worker.options import WorkerOptions
from compute.worker.wire import Limits


def worker_options(settings: ComputeSettings) -> WorkerOptions:
    limits = Limits(settings.max_graph_bytes, settings.max_graph_nodes, settings.max_task_bytes)
    # Every run may hold what a plan allows, its outputs once more, and as much workspace.
    wanted = settings.max_running * 2 * (settings.max_task_bytes + settings.max_output_bytes)
    return WorkerOptions(
        settings.device,
        settings.threads,
        settings.max_running,
        limits,
        min(wanted, Machine()().total),
        settings.sandbox,
    )
