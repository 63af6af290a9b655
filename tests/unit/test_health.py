import asyncio

import pytest

from listener import health
from listener.health import Checks
from shared.errors import RpcUnavailable


async def well() -> tuple[bool, str, str | None]:
    return True, "well", None


async def failing() -> tuple[bool, str, str | None]:
    raise RpcUnavailable("no answer")


async def test_a_check_that_hangs_is_not_well_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LIMIT_S", 0.2)
    hang = asyncio.Barrier(3)  # that both wait at the same moment, and then for ever

    async def hanging() -> tuple[bool, str, str | None]:
        at_once.append(hang.n_waiting)
        await hang.wait()
        raise AssertionError

    at_once: list[int] = []
    checks = Checks({"well": well, "failing": failing, "slot": hanging, "balance": hanging})
    readiness = await checks.readiness()
    assert at_once == [0, 1], "the second began before the first was given up"
    assert not readiness.ready
    assert [name for name, check in readiness.checks.items() if check.ok] == ["well"]
    assert "0.2 s" in readiness.checks["slot"].value
    assert "RpcUnavailable" in readiness.checks["failing"].value
