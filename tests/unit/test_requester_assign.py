"""Assigning: whatever the endpoint loses, a reward is locked once at most, under ids that somebody saw before."""

from pathlib import Path

import pytest
import torch
from solders.transaction import Transaction

from cli.commands.assign import Printed
from compute.graph.document import parse_graph
from listener.chain.answers import Status, TransactionError
from requester.assign import Assigned, Assignment, assign
from requester.chain_of_tasks import Terms, run_pieces
from requester.published import PublishedPiece
from requester.sending import RESEND_ROUNDS
from requester.watch import Completed
from shared.errors import (
    ChainError,
    RpcInvalid,
    RpcRateLimited,
    RpcRefused,
    RpcUnavailable,
    TransactionExpired,
    TransactionRefused,
)
from shared.ids import Lamports, Slot, UnixSeconds
from tests.unit.graphs import as_bytes, document, node, ref, tensor
from tests.unit.listener_world import NOW
from tests.unit.requester_world import ATTEMPT, LOST, MODEL, NODE, PAIR, PASSING, Chain, session

GRAPH = document(
    [tensor("a", ["n"])], [node("sum", "aten.add.Tensor", self=ref("a"), other=ref("a"))], [ref("sum")]
)
PIECE = PublishedPiece(
    MODEL, parse_graph(as_bytes(GRAPH), max_bytes=1 << 20, max_nodes=10), None, ("a",), ("sum",)
)
READ = "get_account confirmed"


async def assigned(chain: Chain, folder: Path) -> Assigned:
    assignment = Assignment(PAIR, NODE, MODEL, ("file:///a#0",), 1, UnixSeconds(NOW + 600), 7, Lamports(1_000_000))
    return await assign(session(chain, folder), assignment)


class Told:
    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.pairs: list[str] = []

    def assigning(self, number: int, assignment: Assignment) -> None:
        assert not self.chain.sent
        self.pairs.append(f"{assignment.pair.execution_id} {assignment.pair.task_id}")
        Printed().assigning(number, assignment)

    def assigned(self, _number: int, _task: Assigned) -> None:
        raise AssertionError("its account cannot be read")

    def completed(self, _number: int, _task: Completed) -> None: ...


async def test_the_pair_is_told_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = Chain()
    chain.faults[READ] = [RpcRefused("not for you", 403)]
    told = Told(chain)
    with pytest.raises(RpcRefused):
        await run_pieces(
            session(chain, tmp_path), [PIECE], {"a": torch.ones(3)}, Terms(NODE, Lamports(1), 60), told
        )
    assert chain.landed == ["assign_task"]
    assert capsys.readouterr().out == f"piece 0: assigning as {told.pairs[0]}\n"
    execution_id, task_id = told.pairs[0].split()
    assert execution_id.encode() in chain.sent[0] and task_id.encode() in chain.sent[0]


@pytest.mark.parametrize("lost", [LOST, RpcRateLimited("429"), RpcInvalid("half an answer")])
async def test_where_the_answer_is_lost_the_transaction_is_known_by_its_signature(
    tmp_path: Path, lost: ChainError
) -> None:
    chain = Chain()
    chain.faults["send_transaction"] = [lost]
    done = await assigned(chain, tmp_path)
    assert done.attempt == ATTEMPT
    assert [Transaction.from_bytes(raw).signatures[0] for raw in chain.sent] == [done.landed.signature]


async def test_what_never_arrived_is_sent_again_as_it_is(tmp_path: Path) -> None:
    chain = Chain()
    chain.arrives = [False]
    chain.faults["send_transaction"] = [LOST]
    chain.faults["get_signature_statuses"] = [*PASSING]
    await assigned(chain, tmp_path)
    first, second = chain.sent
    assert first == second
    assert chain.landed == ["assign_task"]


async def test_what_never_arrived_while_its_blockhash_was_valid_has_expired(tmp_path: Path) -> None:
    chain = Chain()
    chain.arrives = [False]
    chain.faults["send_transaction"] = [LOST]
    chain.faults["get_epoch_info"] = [LOST]

    chain.height = 100
    blockhash = await chain.get_latest_blockhash()

    async def at_height_100() -> object:
        chain.height = blockhash.last_valid_block_height + 1
        return blockhash

    chain.get_latest_blockhash = at_height_100  # type: ignore[assignment]
    with pytest.raises(TransactionExpired):
        await assigned(chain, tmp_path)
    assert len(chain.sent) == 1


async def test_what_landed_long_before_it_was_looked_for_is_found_in_the_history(tmp_path: Path) -> None:
    chain = Chain()
    done = await assigned(chain, tmp_path)
    chain.history, chain.statuses = {str(done.landed.signature): Status(Slot(1_000), None, "finalized")}, {}
    chain.arrives = [False]
    chain.faults["send_transaction"] = [LOST]
    blockhash = await chain.get_latest_blockhash()

    async def expired_since() -> object:
        chain.height = blockhash.last_valid_block_height + 1
        return blockhash

    chain.get_latest_blockhash = expired_since  # type: ignore[assignment]
    again = await assigned(chain, tmp_path)
    assert again.landed.signature == done.landed.signature
    assert chain.asked["get_signature_statuses"] >= RESEND_ROUNDS


async def test_what_is_refused_at_once_or_fails_later_is_an_error(tmp_path: Path) -> None:
    chain = Chain()
    chain.refuses = {"assign_task": RpcRefused("the preflight failed", -32002)}
    with pytest.raises(TransactionRefused, match="the preflight failed"):
        await assigned(chain, tmp_path)
    chain.refuses, chain.fails = {}, TransactionError("instruction 0 failed", 0, 1)
    chain.faults["send_transaction"] = [LOST]
    with pytest.raises(TransactionRefused, match="failed"):
        await assigned(chain, tmp_path)


async def test_an_endpoint_that_cannot_show_the_account_yet_is_asked_again(tmp_path: Path) -> None:
    chain = Chain()
    chain.faults[READ] = [*PASSING, *PASSING]
    assert (await assigned(chain, tmp_path)).attempt == ATTEMPT
    assert chain.asked[READ] == 2 * len(PASSING) + 1


async def test_an_endpoint_that_never_shows_the_account_is_an_error_after_a_while(tmp_path: Path) -> None:
    chain = Chain()
    chain.faults[READ] = [RpcUnavailable("no answer")] * 1_000
    with pytest.raises(RpcUnavailable):
        await assigned(chain, tmp_path)
    assert 5 < chain.asked[READ] < 50


async def test_an_endpoint_that_refuses_to_show_the_account_is_not_asked_again(tmp_path: Path) -> None:
    chain = Chain()
    chain.faults[READ] = [RpcRefused("not for you", 403)]
    with pytest.raises(RpcRefused):
        await assigned(chain, tmp_path)
    assert chain.asked[READ] == 1
