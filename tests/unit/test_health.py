import asyncio

import pytest

from listener import health
from listener.health import Checks
from shared.errors import RpcUnavailable


async def well() -> tuple[bool, str, str | None]:
    return True, "well", None


async def failing() -> tuple[bool, str, str | None]:
    raise RpcUnavailable("no answer")


async def hanging() -> tuple[bool, str, str | None]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_check_that_hangs_is_not_well_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LIMIT_S", 0.2)
    checks = Checks({"well": well, "failing": failing, "slot": hanging, "balance": hanging})
    async with asyncio.timeout(0.35):
        readiness = await checks.readiness()
    assert not readiness.ready
    assert [name for name, check in readiness.checks.items() if check.ok] == ["well"]
    assert "0.2 s" in readiness.checks["slot"].value
    assert "RpcUnavailable" in readiness.checks["failing"].value
