"""A lost journal is made anew from the chain, in a new file."""

import random
from pathlib import Path

import pytest

from listener.chain.answers import TransactionError
from listener.chain.completions import Completions
from listener.chain.idl import Program
from listener.journal.journal import Journal
from listener.journal.records import pair_hash
from listener.rebuild import Origin, rebuild_journal
from shared.errors import ConfigurationError, JournalError, RpcRefused, RpcUnavailable
from shared.ids import ExecutionId, Requester, TaskKey
from tests.program.instructions import EXECUTION_ID, TASK_ID
from tests.unit.chain_bytes import program
from tests.unit.listener_world import NODE, PROGRAM, FastClock, ScriptedRpc, endpoints_of
from tests.unit.other_idls import without_account
from tests.unit.other_transactions import ASSIGN, CANCEL, COMPLETE, FAIL, REQUESTER, STRANGER, History

PAIR = TaskKey(ExecutionId(EXECUTION_ID), TASK_ID)
PAID = pair_hash(PAIR, Requester(str(REQUESTER.pubkey())))


class Chain:
    def __init__(self, tmp_path: Path, of: Program = PROGRAM) -> None:
        self.rpc = ScriptedRpc()
        self.history = History(self.rpc)
        self.path = tmp_path / "new.sqlite"
        self.origin = Origin(endpoints_of(self.rpc), of, NODE, None)

    async def rebuilt(self) -> Completions:
        self.rpc.finalized_rows = self.rpc.rows
        return await rebuild_journal(self.path, self.origin, FastClock(), random.Random(1))


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


async def test_a_pair_that_was_paid_is_in_it_and_nothing_else(chain: Chain) -> None:
    chain.history.add(10, ASSIGN)
    chain.history.add(20, FAIL)
    chain.history.add(30, ASSIGN)
    chain.history.add(40, COMPLETE)
    found = await chain.rebuilt()
    assert found.pairs == [(PAIR, Requester(str(REQUESTER.pubkey())))]
    assert (found.without_requester, found.unread, found.oldest) == (set(), 0, 10)
    journal = Journal(chain.path)
    assert await journal.is_completed(PAID)
    assert await journal.cursor() is None and await journal.counts() == {}
    with pytest.raises(ConfigurationError, match="belongs to node"):
        await journal.belongs_to(node="another")
    journal.close()


async def test_what_failed_or_was_not_completed_is_not_in_it(chain: Chain) -> None:
    chain.history.add(10, ASSIGN)
    chain.history.add(20, CANCEL)
    chain.history.add(30, COMPLETE, err=TransactionError("instruction 0 failed with NoticeOver", 0))
    assert (await chain.rebuilt()).pairs == []


async def test_a_completion_whose_assignment_is_pruned_is_told(chain: Chain) -> None:
    chain.history.add(40, COMPLETE)
    found = await chain.rebuilt()
    assert found.pairs == [] and found.without_requester == {PAIR}


async def test_it_does_not_need_to_know_the_account(tmp_path: Path) -> None:
    chain = Chain(tmp_path, program(without_account()))
    chain.history.add(30, ASSIGN)
    chain.history.add(40, COMPLETE)
    assert len((await chain.rebuilt()).pairs) == 1


async def test_a_transaction_that_cannot_be_read_is_counted(chain: Chain) -> None:
    chain.history.add(30, ASSIGN, payer=STRANGER)
    chain.history.add(40, COMPLETE)
    chain.history.add(50, CANCEL)
    chain.rpc.faults["get_transaction"] = [RpcRefused("of a newer version", -32015)]
    found = await chain.rebuilt()
    assert (len(found.pairs), found.unread) == (1, 1)


async def test_an_endpoint_that_stays_away_leaves_no_file(chain: Chain, tmp_path: Path) -> None:
    chain.history.add(40, COMPLETE)
    chain.rpc.faults["get_transaction"] = [RpcUnavailable("away")] * 100
    with pytest.raises(RpcUnavailable):
        await chain.rebuilt()
    assert list(tmp_path.iterdir()) == []


async def test_an_endpoint_that_is_away_for_a_moment_is_asked_again(chain: Chain) -> None:
    chain.history.add(30, ASSIGN)
    chain.history.add(40, COMPLETE)
    chain.rpc.faults["get_transaction"] = [RpcUnavailable("away")]
    assert len((await chain.rebuilt()).pairs) == 1


async def test_a_file_that_is_there_is_not_overwritten(chain: Chain) -> None:
    chain.path.write_bytes(b"the old journal")
    with pytest.raises(JournalError, match="there already"):
        await chain.rebuilt()
    assert chain.path.read_bytes() == b"the old journal"


async def test_what_an_earlier_try_left_is_no_part_of_it(chain: Chain, tmp_path: Path) -> None:
    chain.path.with_name("new.sqlite.unfinished").write_bytes(b"half")
    await chain.rebuilt()
    assert {path.name for path in tmp_path.iterdir()} == {"new.sqlite"}
