"""Plans that were made before, each for one tenant: the same question has the same answer."""

import hashlib
from collections import OrderedDict

from compute.worker.tenants import Tenant
from compute.worker.wire import Plan

MAX_PLANS = 1_024
MAX_PLANS_BYTES = 16 << 20
"""The least recently used go first."""
_PLAN_BYTES, _OUTPUT_BYTES, _DIMENSION_BYTES = 400, 250, 40
"""What Python takes for a plan, for each of its outputs, and for each of their dimensions, rounded up."""

Key = tuple[Tenant, bytes]


class PlanCache:
    """By tenant and the hash of the whole job, since what a planner says may be a lie of its tenant's."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Plan] = OrderedDict()
        self._bytes = 0

    def get(self, tenant: Tenant, job: bytes) -> Plan | None:
        """`job` as encode_job gives it."""
        key = _key(tenant, job)
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def keep(self, tenant: Tenant, job: bytes, plan: Plan) -> None:
        key = _key(tenant, job)
        if (before := self._known.pop(key, None)) is not None:
            self._bytes -= _size(before)
        self._known[key] = plan
        self._bytes += _size(plan)
        while len(self._known) > MAX_PLANS or self._bytes > MAX_PLANS_BYTES:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= _size(oldest)


def _key(tenant: Tenant, job: bytes) -> Key:
    return tenant, hashlib.sha256(job).digest()


def _size(plan: Plan) -> int:
    dimensions = sum(len(spec.shape) for spec in plan.outputs)
    return _PLAN_BYTES + len(plan.outputs) * _OUTPUT_BYTES + dimensions * _DIMENSION_BYTES
