"""Graphs that a worker has seen, by the hash of their package: each is parsed and made ready once."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from compute.graph.document import parse_graph
from compute.graph.task_graph import TaskGraph
from compute.worker.wire import Limits

MAX_GRAPHS = 64
MAX_PACKAGES_BYTES = 2 << 20
"""Of all that are kept together: what is made of a package may take a hundred times its bytes, and nobody has counted
that. The least recently used go first, and the last one stays."""

Ready = TypeVar("Ready")


class GraphCache(Generic[Ready]):
    """What `make` makes of each graph. For several threads."""

    def __init__(self, limits: Limits, make: Callable[[TaskGraph], Ready]) -> None:
        self._limits = limits
        self._make = make
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[Ready, int]] = OrderedDict()
        self._bytes = 0

    def get(self, package: bytes) -> Ready:
        """Raises GraphInvalid, OperatorNotAllowed, TooLarge."""
        key = hashlib.sha256(package).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key][0]
        limits = self._limits
        ready = self._make(
            parse_graph(package, max_bytes=limits.max_graph_bytes, max_nodes=limits.max_graph_nodes)
        )
        with self._lock:
            if key not in self._known:  # another thread may have been faster
                self._known[key] = ready, len(package)
                self._bytes += len(package)
            while len(self._known) > 1 and (len(self._known) > MAX_GRAPHS or self._bytes > MAX_PACKAGES_BYTES):
                _, (_, size) = self._known.popitem(last=False)
                self._bytes -= size
        return ready
