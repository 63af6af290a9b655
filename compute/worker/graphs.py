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
"""The least recently used go first."""

Ready = TypeVar("Ready")


class GraphCache(Generic[Ready]):
    """What `make` makes of each graph. For several threads."""

    def __init__(self, limits: Limits, make: Callable[[TaskGraph], Ready]) -> None:
        self._limits = limits
        self._make = make
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Ready] = OrderedDict()

    def get(self, package: bytes) -> Ready:
        """Raises GraphInvalid, OperatorNotAllowed, TooLarge."""
        key = hashlib.sha256(package).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        limits = self._limits
        ready = self._make(
            parse_graph(package, max_bytes=limits.max_graph_bytes, max_nodes=limits.max_graph_nodes)
        )
        with self._lock:
            self._known[key] = ready
            while len(self._known) > MAX_GRAPHS:
                self._known.popitem(last=False)
        return ready
