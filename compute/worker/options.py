"""What every worker of this node is started with."""

from dataclasses import dataclass

from compute.worker.lock.sandbox import SandboxMode
from compute.worker.wire import Limits


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    device: str
    threads: int
    """Threads of torch for one operator; 0 is torch's own choice."""
    max_running: int
    limits: Limits
    memory_bytes: int
    """What one worker may take, shared buffers included, above what torch itself takes; not held to with CUDA."""
    sandbox: SandboxMode = "required"
