"""The node's live accounts, listed by what an endpoint finds, and single ones read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from solders.pubkey import Pubkey

from listener.chain.accounts import ExecutionRead, ExecutionState, list_live, read_execution
from listener.chain.answers import Account, AccountRead, ProgramAccounts
from listener.chain.rpc import Memcmp
from shared.errors import AccountInvalid, IdlInvalid
from shared.ids import Slot
from tests.unit.chain_bytes import ADDRESS, IDL, NODE, PROGRAM_ID, REQUESTER, ExecutionBytes, changed, program

PROGRAM = program()
GOOD = ExecutionBytes()


@dataclass
class Accounts:
    """An endpoint that finds accounts as the runtime does; `lies` finds all of them whatever was asked for."""

    held: dict[Pubkey, Account]
    lies: bool = False
    asked: list[tuple[object, ...]] = field(default_factory=list)

    async def get_program_accounts(
        self, program_id: Pubkey, *, filters: Sequence[Memcmp], data_slice: tuple[int, int], commitment: str
    ) -> ProgramAccounts:
        self.asked.append((program_id, [(one.offset, one.raw) for one in filters], data_slice, commitment))
        start, length = data_slice
        found = [
            (address, Account(one.lamports, one.owner, one.data[start : start + length]))
            for address, one in self.held.items()
            if self.lies or all(one.data[f.offset :].startswith(f.raw) for f in filters)
        ]
        return ProgramAccounts(Slot(7), tuple(found))

    async def get_account(self, address: Pubkey, *, commitment: str, min_context_slot: Slot | None) -> AccountRead:
        self.asked.append((address, commitment, min_context_slot))
        return AccountRead(Slot(9), self.held.get(address))


def key(number: int) -> Pubkey:
    return Pubkey([40 + number, *[7] * 31])


def accounts(*made: Account, lies: bool = False) -> Accounts:
    return Accounts({key(at): one for at, one in enumerate(made)}, lies)


async def test_one_call_for_each_live_state_asks_for_heads_alone() -> None:
    rpc = accounts()
    assert await list_live(rpc, PROGRAM, NODE, commitment="finalized") == []
    begins = (0, bytes([50, 148, 225, 163, 129, 33, 229, 40]))
    assert rpc.asked == [
        (PROGRAM_ID, [begins, (9, state), (16, bytes(NODE))], (0, 120), "finalized") for state in (b"\0", b"\1")
    ]


@pytest.mark.parametrize("lies", [False, True])
async def test_the_live_ones_of_this_node_are_listed_and_each_once(lies: bool) -> None:
    rpc = accounts(
        GOOD.account(lamports=5),
        GOOD.but(state=1, refund_at=77).account(),
        GOOD.but(state=2).account(),
        GOOD.but(state=3).account(),
        GOOD.but(assigned_node=REQUESTER).account(),
        lies=lies,
    )
    listed = await list_live(rpc, PROGRAM, NODE)
    assert [(address, head.address, head.state) for address, head in listed] == [
        (key(0), key(0), ExecutionState.ASSIGNED),
        (key(1), key(1), ExecutionState.CANCELLED),
    ]
    first, second = (head for _, head in listed)
    assert (first.lamports, first.attempt, first.reward, first.requester) == (5, 1_000, GOOD.reward, REQUESTER)
    assert second.refund_at == 77


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD.account(owner=REQUESTER),
        GOOD.but(layout=2).account(),
        GOOD.but(state=9).account(),
        GOOD.but(reward=2**60).account(),
        GOOD.but(deadline=-1).account(),
        Account(5, PROGRAM_ID, b""),
        Account(5, PROGRAM_ID, bytes(GOOD)[:119]),
        Account(5, PROGRAM_ID, b"\0" + bytes(GOOD)[1:]),
    ],
)
async def test_an_account_that_cannot_be_read_is_left_out(wrong: Account) -> None:
    for lies in (False, True):
        listed = await list_live(accounts(wrong, GOOD.account(), lies=lies), PROGRAM, NODE)
        assert [address for address, _ in listed] == [key(1)]


async def test_a_program_without_fixed_offsets_cannot_be_listed() -> None:
    loaded = program(
        changed("types", "Execution", "type", "fields", 0, "type", to={"vec": "u8"}, document=unnamed())
    )
    with pytest.raises(IdlInvalid, match=r"state .* no fixed offset"):
        await list_live(accounts(GOOD.account()), loaded, NODE)


def unnamed() -> dict[str, object]:
    """The IDL with another name for `layout`, which may then be of any type."""
    return changed("types", "Execution", "type", "fields", "layout", "name", to="more", document=IDL)


async def test_one_account_is_read_at_the_slot_of_the_answer() -> None:
    rpc = Accounts({ADDRESS: GOOD.account()})
    found = await read_execution(rpc, PROGRAM, ADDRESS, commitment="finalized", min_context_slot=Slot(5))
    assert found.slot == 9
    assert found.execution is not None and found.execution.attempt == 1_000
    assert await read_execution(rpc, PROGRAM, key(0)) == ExecutionRead(Slot(9), None)
    assert rpc.asked == [(ADDRESS, "finalized", 5), (key(0), "confirmed", None)]


async def test_one_account_of_another_kind_is_invalid() -> None:
    with pytest.raises(AccountInvalid):
        await read_execution(Accounts({ADDRESS: GOOD.account(owner=NODE)}), PROGRAM, ADDRESS)
