"""What workers write, where one of them writes without end."""

import asyncio
import logging
import os

import pytest

from compute.worker import words
from compute.worker.words import Words


def written(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == words.__name__]


async def heard(caplog: pytest.LogCaptureFixture, count: int) -> None:
    async with asyncio.timeout(60):
        while len(written(caplog)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def pipe() -> tuple[int, int]:
    heard, write = os.pipe()
    os.set_blocking(write, False)
    return heard, write


async def test_between_two_readings_the_service_has_a_pause(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(words, "PAUSE_S", 3600)
    said = Words(pipe[0])
    with caplog.at_level(logging.WARNING):
        os.write(pipe[1], b"one\n")
        await heard(caplog, 1)
        os.write(pipe[1], b"two\n")
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(written(caplog)) == 1
        said.close()
        assert len(written(caplog)) == 2, "what the pipe holds is read at the end"
    os.close(pipe[1])


async def test_a_log_takes_so_many_lines_in_a_period_and_goes_on_in_the_next(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(words, "PAUSE_S", 0)
    said = Words(pipe[0])
    with caplog.at_level(logging.WARNING):
        os.write(pipe[1], b"x\n" * (words.MAX_LINES + 50))
        await heard(caplog, words.MAX_LINES)
        os.write(pipe[1], b"more\n")
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(written(caplog)) == words.MAX_LINES
        monkeypatch.setattr(words, "PERIOD_S", 0)
        os.write(pipe[1], b"later\n")
        await heard(caplog, words.MAX_LINES + 1)
    said.close()
    os.close(pipe[1])


async def test_who_writes_to_a_full_pipe_is_not_held_up_and_the_end_comes_all_the_same(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    said = Words(pipe[0])
    with pytest.raises(BlockingIOError):
        while True:
            os.write(pipe[1], bytes(4096))
    said.close()
    with pytest.raises(OSError, match=r"Broken pipe"):
        os.write(pipe[1], b"nobody listens")
    os.close(pipe[1])
