"""What a worker in a stranger's hands says of the device counts for that worker alone."""

import pytest

from compute.worker import health
from shared.errors import ComputationFailed
from tests.hostile.hostile_worker import Deed
from tests.hostile.pool import do, forks, hostile_pool

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("deed", [Deed.SAY_SICK, Deed.SAY_NOTHING])
async def test_who_answers_probes_wrongly_or_never_loses_its_own_worker_and_no_other(
    deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_S", 120.0)  # a slow machine makes no spare within the real limit
    async with hostile_pool() as pool:
        await do(pool, Deed.NOTHING, "honest")
        honest = pool.pid
        await do(pool, Deed.NOTHING, "hostile")
        hostile = pool.pid
        assert honest != hostile
        await pool.probe()  # there is a spare, so that it need not be waited for within the shorter limit
        with monkeypatch.context() as patch, pytest.raises(ComputationFailed, match="from now on"):
            patch.setattr(health, "PROBE_S", 10.0)
            await do(pool, deed, "hostile")
        assert hostile not in forks()
        assert honest in forks()
        await pool.probe()
        await do(pool, Deed.NOTHING, "honest")
        assert pool.pid == honest, "it was not replaced either"
