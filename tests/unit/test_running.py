"""How a command ends: its exit status, and its errors one on a line."""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from cli.commands.running import INTERRUPTED, run, settings_of
from examples import demo
from requester.settings import RequesterSettings
from shared.errors import ConfigurationError, LocalNetworkFailed, RpcUnavailable, TaskNotCompleted


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["splitup-node test"])


async def ends_with(outcome: bool | None) -> bool | None:
    return outcome


async def fails(error: BaseException) -> None:
    raise error


async def fails_in_tasks(*errors: Exception) -> None:
    async with asyncio.TaskGroup() as outer:

        async def inner() -> None:
            async with asyncio.TaskGroup() as group:
                for error in errors:
                    group.create_task(fails(error))

        outer.create_task(inner())


@pytest.mark.parametrize(("outcome", "status"), [(None, 0), (True, 0), (False, 1)])
def test_a_command_says_by_its_status_whether_it_went_well(outcome: bool | None, status: int) -> None:
    assert run(ends_with(outcome)) == status


def test_the_errors_of_tasks_are_told_each_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fails_in_tasks(LocalNetworkFailed("surfpool ended"), RpcUnavailable("no answer"))) == 1
    assert capsys.readouterr().err.splitlines() == [
        "splitup-node test: LocalNetworkFailed: surfpool ended",
        "splitup-node test: RpcUnavailable: no answer",
    ]


def test_what_a_stranger_put_into_an_error_reaches_the_terminal_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(fails(TaskNotCompleted("the node said: \x1b[2J\x9b31m\r\nsplitup-node: paid \u202e"))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert "\\x1b[2J\\x9b31m\\r\\n" in line


def test_sigterm_ends_a_command_as_ctrl_c_does() -> None:
    async def waits() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    assert run(waits()) == INTERRUPTED


def test_the_demo_fails_where_the_result_is_not_the_unsplit_model_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for same in (True, False):

        async def judged(_storage: object, same: bool = same) -> bool:
            return same

        monkeypatch.setattr(demo, "demo", judged)
        assert demo.main() == (0 if same else 1)


def test_the_demo_says_what_went_wrong_however_deep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails_below(_storage: Any) -> bool:
        await fails_in_tasks(LocalNetworkFailed("solana-test-validator ended"))
        return True

    monkeypatch.setattr(demo, "demo", fails_below)
    assert demo.main() == 1
    told = capsys.readouterr().err
    assert "solana-test-validator ended" in told
    assert "TaskGroup" not in told


def test_wrong_settings_are_named_without_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITUP_RPC_URL", "ftp://rpc.example.org/?key=secret")
    monkeypatch.setenv("SPLITUP_PUBLISH_PREFIX", "http://user:secret@bucket/")
    with pytest.raises(ConfigurationError) as refused:
        settings_of(RequesterSettings)
    assert "SPLITUP_RPC_URL: not a URL of the scheme http or https" in str(refused.value)
    assert "SPLITUP_PUBLISH_PREFIX" in str(refused.value)
    assert "secret" not in str(refused.value)
