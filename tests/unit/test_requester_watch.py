"""Watching and cancelling before an endpoint with gaps: nothing that was paid for is lost, and why it ended is told."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from listener.chain.accounts import ExecutionState
from listener.chain.answers import TransactionRead
from requester import outputs
from requester import watch as watching
from requester.cancel import cancel
from requester.outputs import find_ending
from requester.patience import passes
from requester.watch import watch
from shared.errors import (
    AccountInvalid,
    ChainError,
    OutputInvalid,
    RpcInvalid,
    RpcRefused,
    RpcUnavailable,
    StorageUnavailable,
    TaskNotCompleted,
)
from shared.ids import Slot
from tests.program.instructions import COMPLETED, FAILED
from tests.unit.chain_bytes import ADDRESS
from tests.unit.listener_world import NOW
from tests.unit.requester_world import ATTEMPT, LOST, PAIR, PASSING, Chain, session, stands

OUTPUT = ("file:///out#0", torch.ones(2))
READ = "get_account confirmed"
GONE = RpcRefused("no such method", -32601)


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Outputs are there, unless this has an error for them."""
    errors: list[Exception] = []

    async def fetched(*_: Any) -> list[tuple[str, torch.Tensor]]:
        if errors:
            raise errors.pop(0)
        return [OUTPUT]

    monkeypatch.setattr(watching, "fetch_outputs", fetched)
    return errors


def completed(chain: Chain) -> None:
    stands(chain, state=COMPLETED)
    chain.tells("task_completed", output_uris=[OUTPUT[0]], execution_time=5)


def failed(chain: Chain) -> None:
    stands(chain, state=FAILED)
    chain.tells("task_failed", error_message="OutOfMemory")


def test_what_passes_is_an_endpoint_that_is_away_busy_behind_or_broken() -> None:
    assert all(map(passes, PASSING))
    assert not any(map(passes, [GONE, RpcRefused("HTTP 403", 403), AccountInvalid("another owner")]))


async def test_every_question_of_watch_is_asked_again(
    chain: Chain, tmp_path: Path, stored: list[Exception]
) -> None:
    completed(chain)
    for method in ("get_clock", READ, "get_signatures_for_address", "get_latest_blockhash", "send_transaction"):
        chain.faults[method] = [*PASSING[:3]]
    chain.faults["get_transaction"] = [*PASSING]
    done = await watch(session(chain, tmp_path), PAIR)
    assert done.outputs == [OUTPUT]
    assert done.ending.execution_time_ms == 5
    assert chain.landed == ["reclaim"]


async def test_an_endpoint_that_has_no_answer_is_spoken_of(
    chain: Chain, tmp_path: Path, stored: list[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    completed(chain)
    chain.faults["get_clock"] = [LOST] * 20
    await watch(session(chain, tmp_path), PAIR)
    assert "the endpoint has had no answer" in caplog.text
    assert len(caplog.records) < 20


async def test_an_endpoint_that_refuses_ends_the_watch(chain: Chain, tmp_path: Path) -> None:
    stands(chain)
    chain.faults["get_clock"] = [GONE]
    with pytest.raises(RpcRefused):
        await watch(session(chain, tmp_path), PAIR)


async def test_every_question_of_cancel_is_asked_again(chain: Chain, tmp_path: Path) -> None:
    stands(chain)
    for method in (READ, "get_clock", "get_latest_blockhash", "send_transaction", "get_signature_statuses"):
        chain.faults[method] = [*PASSING[:3]]
    waited: list[float] = []
    cancelled = await cancel(session(chain, tmp_path), PAIR, waited.append)
    assert cancelled.state is ExecutionState.CANCELLED
    assert chain.landed == ["cancel_execution", "reclaim"]
    assert waited == sorted(waited, reverse=True) and waited


async def test_a_notice_that_is_waited_out_is_asked_for_again_too(chain: Chain, tmp_path: Path) -> None:
    stands(chain, state=1, refund_at=NOW + 30)
    session_ = session(chain, tmp_path)

    def lose(_left: float) -> None:
        chain.faults[READ] = [*PASSING]
        chain.faults["get_clock"] = [*PASSING]

    assert (await cancel(session_, PAIR, lose)).state is ExecutionState.CANCELLED
    assert chain.landed == ["reclaim"]


async def test_a_cancellation_before_a_dead_endpoint_ends_after_a_while(chain: Chain, tmp_path: Path) -> None:
    chain.faults[READ] = [LOST] * 1_000
    with pytest.raises(RpcUnavailable):
        await cancel(session(chain, tmp_path), PAIR)


async def test_a_task_that_completes_between_two_questions_was_not_cancelled(
    chain: Chain, tmp_path: Path, stored: list[Exception]
) -> None:
    stands(chain, state=1, refund_at=NOW + 30)
    chain.time = NOW + 20
    before = chain.get_clock

    async def completes_then(commitment: str = "confirmed") -> float:
        now = await before(commitment)
        if now >= NOW + 28 and not chain.rows:
            completed(chain)
            return NOW + 40
        return now

    chain.get_clock = completes_then  # type: ignore[method-assign]
    assert (await watch(session(chain, tmp_path), PAIR)).outputs == [OUTPUT]


@pytest.mark.parametrize(
    ("method", "error"), [("refuses", RpcRefused("no funds for the fee", -32002)), ("faults", GONE)]
)
async def test_outputs_are_given_also_where_the_rent_does_not_come_back(
    chain: Chain,
    tmp_path: Path,
    stored: list[Exception],
    caplog: pytest.LogCaptureFixture,
    method: str,
    error: RpcRefused,
) -> None:
    completed(chain)
    if method == "refuses":
        chain.refuses["reclaim"] = error
    else:
        chain.faults["get_latest_blockhash"] = [error]
    assert (await watch(session(chain, tmp_path), PAIR)).outputs == [OUTPUT]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(error) in record.getMessage()
    assert f"splitup-node cancel {PAIR.execution_id} {PAIR.task_id}" in record.getMessage()


async def test_where_storage_is_away_the_account_stays_and_it_can_be_watched_again(
    chain: Chain, tmp_path: Path, stored: list[Exception]
) -> None:
    completed(chain)
    stored.append(StorageUnavailable("no answer"))
    with pytest.raises(StorageUnavailable):
        await watch(session(chain, tmp_path), PAIR)
    assert (await watch(session(chain, tmp_path), PAIR)).outputs == [OUTPUT]


async def test_outputs_that_are_none_are_told_and_the_rent_comes_back(
    chain: Chain, tmp_path: Path, stored: list[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    completed(chain)
    stored.append(OutputInvalid("another hash"))
    chain.refuses["reclaim"] = GONE
    with pytest.raises(OutputInvalid):
        await watch(session(chain, tmp_path), PAIR)
    assert "could not be reclaimed" in caplog.text


async def test_an_ending_on_a_later_page_is_found(chain: Chain, tmp_path: Path) -> None:
    chain.fills(2_100)
    chain.tells("task_failed", error_message="OutOfMemory")
    ending = await find_ending(session(chain, tmp_path), PAIR, ATTEMPT, "task_failed")
    assert ending is not None and ending.arguments["error_message"] == "OutOfMemory"
    assert chain.asked["get_signatures_for_address"] == 3


async def test_what_is_older_than_the_attempt_is_not_asked_for(chain: Chain, tmp_path: Path) -> None:
    old = chain.lists(7, slot=ATTEMPT - 1)
    chain.transactions[old] = TransactionRead(Slot(0), b"", None, (), {}, (), None)
    assert await find_ending(session(chain, tmp_path), PAIR, ATTEMPT, "task_failed") is None
    assert not chain.asked["get_transaction"]


async def test_transactions_that_cannot_be_read_are_passed_over(chain: Chain, tmp_path: Path) -> None:
    for number in (5, 6, 7):
        chain.lists(number, read=TransactionRead(Slot(1_500), b"\x83 no transaction", None, (), {}, (), None))
    failed(chain)
    chain.faults["get_transaction"] = [RpcInvalid("a version that is not known"), GONE]
    assert await find_ending(session(chain, tmp_path), PAIR, ATTEMPT, "task_failed") is not None
    assert chain.asked["get_transaction"] == 4


async def test_another_attempt_s_ending_is_not_this_one_s(chain: Chain, tmp_path: Path) -> None:
    chain.tells("task_failed", 1, attempt=ATTEMPT + 1, error_message="of another")
    chain.tells("task_failed", 2, error_message="of this")
    ending = await find_ending(session(chain, tmp_path), PAIR, ATTEMPT, "task_failed")
    assert ending is not None and ending.arguments["error_message"] == "of this"


async def test_an_ending_that_is_listed_late_is_waited_for(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "LOOK_EVERY_S", 1.0)
    late = session(chain, tmp_path)
    sleep = late.clock.sleep

    async def listed_meanwhile(seconds: float) -> None:
        if chain.asked["get_signatures_for_address"] == 3:
            failed(chain)
        await sleep(seconds)

    monkeypatch.setattr(late.clock, "sleep", listed_meanwhile)
    assert await find_ending(late, PAIR, ATTEMPT, "task_failed") is not None


async def test_a_failure_comes_with_its_reason(chain: Chain, tmp_path: Path) -> None:
    failed(chain)
    with pytest.raises(TaskNotCompleted, match="failed: 'OutOfMemory'; reward and rent are back"):
        await watch(session(chain, tmp_path), PAIR)
    assert ADDRESS not in chain.accounts


@pytest.mark.parametrize("refusal", [None, GONE, RpcInvalid("no rows")])
async def test_a_failure_whose_reason_is_not_found_is_reclaimed_all_the_same(
    chain: Chain, tmp_path: Path, refusal: ChainError | None
) -> None:
    stands(chain, state=FAILED)
    chain.faults["get_signatures_for_address"] = [refusal] * 1_000 if refusal else []
    with pytest.raises(TaskNotCompleted, match=r"failed; the reason was not found.*; reward and rent are back"):
        await watch(session(chain, tmp_path), PAIR)
    assert chain.landed == ["reclaim"]


async def test_a_failure_is_told_also_where_nothing_comes_back(chain: Chain, tmp_path: Path) -> None:
    failed(chain)
    chain.refuses["reclaim"] = RpcRefused("no funds for the fee", -32002)
    with pytest.raises(TaskNotCompleted, match=r"'OutOfMemory'; .* reclaimed: no funds.*splitup-node cancel"):
        await watch(session(chain, tmp_path), PAIR)


@pytest.mark.parametrize("refusal", [None, GONE])
async def test_a_payment_that_the_endpoint_does_not_list_is_no_failure(
    chain: Chain, tmp_path: Path, refusal: ChainError | None
) -> None:
    chain.faults["get_signatures_for_address"] = [refusal] * 1_000 if refusal else []
    stands(chain, state=COMPLETED)
    with pytest.raises(ChainError, match="completed, and its node paid, but the endpoint does not list"):
        await watch(session(chain, tmp_path), PAIR)
    assert ADDRESS in chain.accounts  # so that it can be watched again
