"""What looks like work and is none causes no computation; what is work counts in every form of transaction."""

import asyncio
import struct

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount, derive_lookup_table_address
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import Transaction, VersionedTransaction

from cli.localnet.deploy import deploy
from listener.chain.accounts import ExecutionState
from requester.assign import Assignment
from tests.e2e.conftest import World
from tests.e2e.desk import journal, stages, states, until
from tests.unit.v1_transactions import V1

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
    pytest.mark.validator,
]

LOOKUP_TABLES = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
ROOTED_SLOTS = 33
"""The leader drops a transaction whose lookup table is younger than its root."""


async def assert_nothing_came_of(world: World, assignment: Assignment) -> None:
    await world.desk.settled(world.node)
    await asyncio.sleep(2.5)  # two backfills and the beginning of a third
    assert stages(world.node, assignment.pair) == []
    assert states(world.node, assignment.pair) == []


async def test_the_event_of_a_failed_transaction_is_no_assignment(world: World) -> None:
    assignment = await world.desk.assignment(world.node.address)
    await world.desk.send_failing(assignment)
    await assert_nothing_came_of(world, assignment)


async def test_a_forged_log_line_is_no_assignment(world: World) -> None:
    assignment = await world.desk.assignment(world.node.address)
    await world.desk.send_forged(assignment)
    await assert_nothing_came_of(world, assignment)


async def test_the_event_of_another_program_is_no_assignment(world: World) -> None:
    program = Keypair()
    await deploy(world.net.rpc, world.net.requester, program)
    assignment = await world.desk.assignment(world.node.address)
    status = await world.desk.send(world.desk.instruction(assignment, program.pubkey()))
    assert status.err is None
    await assert_nothing_came_of(world, assignment)


async def test_a_mention_without_an_event_is_no_assignment(world: World) -> None:
    tasks = "SELECT count(*) FROM tasks"
    await world.desk.settled(world.node)
    before = journal(world.node, tasks)
    assert (await world.desk.send(world.desk.mention(world.node.address))).err is None
    await asyncio.sleep(2.5)
    assert journal(world.node, tasks) == before


async def test_a_task_for_another_node_that_mentions_this_one_is_left_to_the_other(world: World) -> None:
    assignment = await world.desk.assignment(world.other_node.address)
    status = await world.desk.send(world.desk.instruction(assignment), world.desk.mention(world.node.address))
    assert status.err is None
    assert (await world.desk.ended(assignment.pair)).state is ExecutionState.COMPLETED
    await assert_nothing_came_of(world, assignment)
    assert stages(world.other_node, assignment.pair)


async def test_an_input_in_another_requesters_folder_is_not_read(world: World) -> None:
    session = world.desk.session
    stranger = f"{session.publish_prefix}/{Keypair().pubkey()}/{'0' * 64}.safetensors"
    assigned = await world.desk.assign(world.node.address, uris=(stranger,))
    pair = assigned.assignment.pair
    assert (await world.desk.ended(pair)).state is ExecutionState.FAILED
    assert stages(world.node, pair) == []
    ((_, reason),) = states(world.node, pair)
    assert reason == "input-forbidden"


async def test_one_assignment_that_is_told_of_many_times_is_computed_once(world: World) -> None:
    assignment = await world.desk.assignment(world.node.address)
    message = Message([world.desk.instruction(assignment)], world.desk.key.pubkey())
    raw = bytes(Transaction([world.desk.key], message, await world.desk.blockhash()))
    for _ in range(3):
        assert (await world.desk.send_raw(raw)).err is None
    assert (await world.desk.ended(assignment.pair)).state is ExecutionState.COMPLETED
    await asyncio.sleep(4)  # backfills and a listing
    assert (await world.desk.send_raw(raw)).err is None
    await world.desk.settled(world.node)
    assert stages(world.node, assignment.pair) == ["fetching", "running", "storing", "done"]
    sent = "SELECT count(*) FROM outbox JOIN tasks ON tasks.id = task WHERE execution_id = ?"
    assert journal(world.node, sent, assignment.pair.execution_id) == [(1,)]


async def test_an_assignment_by_a_lookup_table_counts(world: World) -> None:
    desk, rpc, node = world.desk, world.net.rpc, world.node.address
    recent = await rpc.get_slot("finalized")
    table, bump = derive_lookup_table_address(desk.key.pubkey(), recent)
    metas = [
        AccountMeta(table, False, True),
        AccountMeta(desk.key.pubkey(), True, False),
        AccountMeta(desk.key.pubkey(), True, True),
        AccountMeta(SYSTEM_PROGRAM, False, False),
    ]
    create = Instruction(LOOKUP_TABLES, struct.pack("<IQB", 0, recent, bump), metas)
    extend = Instruction(LOOKUP_TABLES, struct.pack("<IQ", 2, 1) + bytes(node), metas)
    made = await desk.send(create, extend)
    assert made.err is None

    async def is_rooted() -> bool:
        return await rpc.get_slot("finalized") > made.slot + 1

    await until(is_rooted, "the table is rooted")
    assignment = await desk.assignment(node)
    message = MessageV0.try_compile(
        desk.key.pubkey(),
        [desk.instruction(assignment)],
        [AddressLookupTableAccount(table, [node])],
        await desk.blockhash(),
    )
    assert node not in message.account_keys
    status = await desk.send_raw(bytes(VersionedTransaction(message, [desk.key])))
    assert status.err is None
    assert (await desk.ended(assignment.pair)).state is ExecutionState.COMPLETED


async def test_an_assignment_by_a_version_1_transaction_counts(world: World) -> None:
    desk = world.desk
    assignment = await desk.assignment(world.node.address)
    called = desk.instruction(assignment)
    account, payer, node, system = (meta.pubkey for meta in called.accounts)
    keys = [payer, account, node, system, called.program_id]  # writable signer, writable, read-only ones
    transaction = V1(
        header=(1, 0, 3),
        mask=0b1100,
        config=struct.pack("<II", 200_000, 64 << 20),
        blockhash=bytes(await desk.blockhash()),
        keys=keys,
        instructions=((4, bytes([1, 0, 2, 3]), bytes(called.data)),),
        signers=(desk.key,),
    )
    status = await desk.send_raw(bytes(transaction))
    assert status.err is None
    assert (await desk.ended(assignment.pair)).state is ExecutionState.COMPLETED
