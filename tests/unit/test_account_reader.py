"""Single reads that come together: one call, and everybody's own answer."""

import asyncio

import pytest
from solders.pubkey import Pubkey

from listener.chain.account_reader import AccountReader
from listener.chain.answers import Account, AccountRead
from listener.chain.rpc import CLOCK_SYSVAR
from shared.errors import ChainError, RpcRefused, RpcUnavailable
from shared.ids import Lamports, Slot
from tests.unit.listener_world import ScriptedRpc

TOGETHER, ALONE = "get_multiple_accounts confirmed", "get_account confirmed"
ADDRESSES = [Pubkey([number] * 32) for number in range(1, 31)]


class SlowRpc(ScriptedRpc):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.accounts = {one: Account(Lamports(bytes(one)[0]), one, b"") for one in ADDRESSES}

    async def get_account(self, *args: object, **options: object) -> AccountRead:  # type: ignore[override]
        read = await super().get_account(*args, **options)  # type: ignore[arg-type]
        await self.let.wait()
        return read

    async def get_multiple_accounts(self, *args: object, **options: object) -> list[AccountRead]:  # type: ignore[override]
        reads = await super().get_multiple_accounts(*args, **options)  # type: ignore[arg-type]
        await self.let.wait()
        return reads


@pytest.fixture
def rpc() -> SlowRpc:
    return SlowRpc()


async def begun(
    reader: AccountReader, rpc: SlowRpc, address: Pubkey, at_least: int = 0
) -> asyncio.Task[AccountRead]:
    task = asyncio.ensure_future(reader.read(rpc, address, Slot(at_least), "confirmed"))  # type: ignore[arg-type]
    await asyncio.sleep(0.002)
    return task


def lamports(reads: list[AccountRead]) -> list[int]:
    return [read.account.lamports for read in reads if read.account is not None]


async def test_reads_of_one_moment_go_in_one_call(rpc: SlowRpc) -> None:
    rpc.let.set()
    reader = AccountReader()
    reads = await asyncio.gather(*(reader.read(rpc, one, Slot(0), "confirmed") for one in ADDRESSES))  # type: ignore[arg-type]
    assert lamports(reads) == list(range(1, 31))
    assert rpc.asked[TOGETHER] == 1 and rpc.asked[ALONE] == 0


async def test_who_comes_while_two_calls_are_under_way_goes_with_the_others_in_the_next(rpc: SlowRpc) -> None:
    reader = AccountReader()
    tasks = [await begun(reader, rpc, one) for one in ADDRESSES]
    assert (rpc.asked[ALONE], rpc.asked[TOGETHER]) == (2, 0)
    rpc.let.set()
    assert lamports(await asyncio.gather(*tasks)) == list(range(1, 31))
    assert (rpc.asked[ALONE], rpc.asked[TOGETHER]) == (2, 1)


async def test_one_that_asks_for_a_slot_not_reached_yet_holds_up_no_other(rpc: SlowRpc) -> None:
    rpc.let.set()
    reader = AccountReader()
    slots = [Slot(0), Slot(rpc.slot + 1), Slot(0)]
    wanted = zip(ADDRESSES, slots, strict=False)
    reads = await asyncio.gather(
        *(reader.read(rpc, one, slot, "confirmed") for one, slot in wanted),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    assert [isinstance(read, AccountRead) for read in reads] == [True, False, True]
    assert isinstance(reads[1], ChainError)


@pytest.mark.parametrize("error", [RpcRefused("Method not found", -32601), RpcUnavailable("no answer")])
async def test_only_an_endpoint_that_refuses_the_call_is_asked_for_each(rpc: SlowRpc, error: ChainError) -> None:
    rpc.let.set()
    rpc.faults[TOGETHER] = [error]
    reader = AccountReader()
    reads = await asyncio.gather(
        *(reader.read(rpc, one, Slot(0), "confirmed") for one in ADDRESSES),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    if isinstance(error, RpcRefused):
        assert rpc.asked[ALONE] == len(ADDRESSES) and all(isinstance(read, AccountRead) for read in reads)
    else:
        assert rpc.asked[ALONE] == 0 and set(reads) == {error}


async def test_who_is_cancelled_leaves_the_others_their_answers(rpc: SlowRpc) -> None:
    reader = AccountReader()
    first, second, third, fourth, fifth = [await begun(reader, rpc, one) for one in ADDRESSES[:5]]
    first.cancel()  # its call is given up, and the three who wait go on
    await asyncio.sleep(0.002)
    fourth.cancel()
    third.cancel()  # it reads for the others by now
    await asyncio.sleep(0.002)
    rpc.let.set()
    assert lamports([await second, await fifth]) == [2, 5]
    assert first.cancelled() and third.cancelled() and fourth.cancelled()


async def test_the_chains_clock_is_read_with_the_accounts(rpc: SlowRpc) -> None:
    rpc.let.set()
    rpc.accounts[CLOCK_SYSVAR] = Account(
        Lamports(1), CLOCK_SYSVAR, bytes(32) + (1_700_000_000).to_bytes(8, "little")
    )
    reader = AccountReader()
    now, read = await asyncio.gather(
        reader.clock(rpc, "confirmed"),  # type: ignore[arg-type]
        reader.read(rpc, ADDRESSES[0], Slot(0), "confirmed"),  # type: ignore[arg-type]
    )
    assert now == 1_700_000_000 and lamports([read]) == [1]
    assert rpc.asked[TOGETHER] == 1 and rpc.asked[ALONE] == 0
