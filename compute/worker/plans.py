"""Plans that were made before, by package and inputs: the same question has the same answer."""

import hashlib
from collections import OrderedDict

from compute.worker.wire import Job, Plan

MAX_PLANS = 1_024
"""The least recently used go first."""

Key = tuple[bytes, object]


class PlanCache:
    def __init__(self) -> None:
        self._known: OrderedDict[Key, Plan] = OrderedDict()

    def get(self, job: Job) -> Plan | None:
        key = _key(job)
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def keep(self, job: Job, plan: Plan) -> None:
        self._known[_key(job)] = plan
        while len(self._known) > MAX_PLANS:
            self._known.popitem(last=False)


def _key(job: Job) -> Key:
    return hashlib.sha256(job.package).digest(), job.inputs
