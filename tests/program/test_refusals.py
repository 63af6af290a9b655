"""What is wrong with an instruction, and the one error that says so. Every error of the IDL has a row."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.rent import Rent

from tests.program.chain import ERROR_NAMES, NOW, SLOT
from tests.program.instructions import EXECUTION_ID, SYSTEM_PROGRAM, TASK_ID, discriminator, string
from tests.program.world import INSTRUCTIONS, MAX_DEADLINE_S, SITUATIONS, World, with_account, with_data

EXECUTION, REQUESTER, NODE, SYSTEM = range(4)
"""The accounts of assign_task, and the first three those of cancel_execution."""


@dataclass(frozen=True)
class Sent:
    """What is sent, and who signs; the first signer pays."""

    instruction: Instruction
    signers: tuple[Keypair, ...]


Row = tuple[str, str, Callable[[World], Sent]]
ROWS: list[Row] = []


def row(error: str, wrong: str, send: Callable[[World], Sent]) -> None:
    ROWS.append((error, wrong, send))


def ready(world: World, name: str) -> Instruction:
    """The instruction, in a state in which it would be accepted."""
    situation = {"assign_task": "never assigned", "reclaim": "failed"}.get(name, "assigned")
    SITUATIONS[situation](world)
    return world.instruction(name)


def sent_with_data(name: str, change: Callable[[bytes], bytes]) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        instruction = ready(world, name)
        return Sent(with_data(instruction, change(bytes(instruction.data))), (world.signer(name),))

    return send


def sent_with_account(name: str, index: int, **change: bool) -> Callable[[World], Sent]:
    """A stranger pays, since whoever pays is a writable signer whatever the instruction says."""

    def send(world: World) -> Sent:
        instruction = with_account(ready(world, name), index, **change)
        signs = any(meta.is_signer for meta in instruction.accounts)
        return Sent(instruction, (world.stranger, world.signer(name)) if signs else (world.stranger,))

    return send


def sent_with_terms(**terms: object) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        return Sent(world.pair.assign_task(replace(world.assignment, **terms)), (world.requester,))

    return send


# The data.
row("UnknownInstruction", "no data", sent_with_data("reclaim", lambda _: b""))
row("UnknownInstruction", "seven bytes", sent_with_data("reclaim", lambda data: data[:7]))
row(
    "UnknownInstruction",
    "another name",
    sent_with_data("reclaim", lambda data: discriminator("global", "close") + data[8:]),
)
for name in INSTRUCTIONS:
    row("ArgumentsTruncated", f"{name} without its last byte", sent_with_data(name, lambda data: data[:-1]))
    row("ArgumentsTruncated", f"{name} without arguments", sent_with_data(name, lambda data: data[:8]))
    row(
        "ArgumentsTruncated",
        f"{name} with a string of 4 GiB",
        sent_with_data(name, lambda data: data[:8] + b"\xff\xff\xff\xff" + data[12:]),
    )
    row("ArgumentsTrailing", f"{name} with a byte too many", sent_with_data(name, lambda data: data + b"\0"))

BAD_IDS = ("", ".hidden", "a/b", "a b", "é", b"\xff\xfe", b"a\0", "x" * 65, "x" * 300)
for bad in BAD_IDS:
    for field, error in (
        ("execution_id", "InvalidExecutionId"),
        ("task_id", "InvalidTaskId"),
        ("model_id", "InvalidModelId"),
    ):
        row(error, f"{field} {bad[:10]!r}", sent_with_terms(**{field: bad}))
for name in INSTRUCTIONS:
    row(
        "InvalidExecutionId",
        f"{name} with an empty executionId",
        sent_with_data(
            name, lambda data: data[:8] + string("") + data[12 + struct.unpack_from("<I", data, 8)[0] :]
        ),
    )
    row(
        "InvalidTaskId",
        f"{name} with a taskId that begins with a dot",
        sent_with_data(name, lambda data: data.replace(string(TASK_ID), string(".k"))),
    )

URI = "s3://bucket/key"
row("InputUriCount", "no URI", sent_with_terms(input_uris=()))
row("InputUriCount", "nine URIs", sent_with_terms(input_uris=(URI,) * 9))
BAD_URIS = (
    "",
    "s3://",
    "s3://bucket",
    "s3://bucket/",
    "s3:///key",
    "s3://bucket//key",
    "s3://bucket/../key",
    "s3://bucket/./key",
    "s3://../key",
    "s3://bucket/key/",
    "s3://bucket/k%65y",
    "s3://bucket/key#",
    "s3://bucket/key#a#b",
    "s3://bucket/key#**",
    "s3://bucket/*",
    "s3://bucket/k\u00e9y",
    b"s3://bucket/\xff",
    b"s3://bucket/\0",
    "S3://bucket/key",
    "http://bucket/key",
    "file://host/path",
    "file:///",
    "file:///a//b",
    "file:///a/../b",
    "s3://bucket/" + "k" * 389,
)
for bad in BAD_URIS:
    row("InvalidInputUri", f"{bad[:24]!r}", sent_with_terms(input_uris=(URI, bad)))
row("OutputCountZero", "no output", sent_with_terms(expected_output_count=0))
row("RewardTooLarge", "2^53", sent_with_terms(reward=2**53))
row("ComputeUnitsTooLarge", "2^53", sent_with_terms(compute_units=2**53))
row("DeadlineNotAhead", "now", sent_with_terms(deadline=NOW))
row("DeadlineNotAhead", "long ago", sent_with_terms(deadline=-(2**63)))
row("DeadlineTooFar", "a second beyond 30 days", sent_with_terms(deadline=NOW + MAX_DEADLINE_S + 1))
row("DeadlineTooFar", "the end of time", sent_with_terms(deadline=2**63 - 1))


def sent_with_outputs(expected: int, uris: tuple[str | bytes, ...]) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        world.assign(expected_output_count=expected)
        return Sent(world.pair.task_completed(SLOT, uris), (world.node,))

    return send


def _output_count(data: bytes, count: int) -> bytes:
    start = 8 + len(string(EXECUTION_ID)) + len(string(TASK_ID)) + 8
    return data[:start] + struct.pack("<I", count) + data[start + 4 :]


ALL = "s3://bucket/key#*"
row("OutputUriCount", "one missing", sent_with_outputs(2, (URI,)))
row("OutputUriCount", "one too many", sent_with_outputs(1, (URI, URI)))
row("OutputUriCount", "none", sent_with_outputs(1, ()))
row("OutputUriCount", "nine, as expected", sent_with_outputs(9, (URI,) * 9))
row("OutputUriCount", "two objects of all their tensors", sent_with_outputs(9, (ALL, ALL)))
row(
    "OutputUriCount", "4 Gi of them", sent_with_data("task_completed", lambda data: _output_count(data, 2**32 - 1))
)
for bad in ("", "s3://bucket/key#", "ftp://bucket/key", b"\xff" * 8):
    row("InvalidOutputUri", repr(bad), sent_with_outputs(2, (bad, URI)))


def sent_with_message(message: bytes) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        world.assign()
        return Sent(world.pair.task_failed(SLOT, message), (world.node,))

    return send


row("ErrorMessageTooLong", "257 bytes", sent_with_message(b"x" * 257))
row("ErrorMessageNotUtf8", "a lone byte", sent_with_message(b"\xff"))
row("ErrorMessageNotUtf8", "a character cut", sent_with_message("é".encode()[:1]))
row("ErrorMessageNotUtf8", "a surrogate", sent_with_message(b"\xed\xa0\x80"))


# The accounts.
ACCOUNTS = {
    "assign_task": ("execution", "requester", "node", "system"),
    "cancel_execution": ("execution", "requester", "node"),
    "task_completed": ("execution", "node"),
    "task_failed": ("execution", "node"),
    "reclaim": ("execution", "requester"),
}


def sent_with_accounts(
    name: str, change: Callable[[World, list[AccountMeta]], list[AccountMeta]]
) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        instruction = ready(world, name)
        accounts = change(world, list(instruction.accounts))
        changed = Instruction(instruction.program_id, bytes(instruction.data), accounts)
        wallets = (world.requester, world.node)
        needed = {meta.pubkey for meta in accounts if meta.is_signer}
        signers = tuple(wallet for wallet in wallets if wallet.pubkey() in needed)
        return Sent(changed, (world.stranger, *signers))

    return send


for name, roles in ACCOUNTS.items():
    row("AccountsMissing", f"{name} with none", sent_with_accounts(name, lambda _, metas: metas[:0]))
    row("AccountsMissing", f"{name} with one too few", sent_with_accounts(name, lambda _, metas: metas[:-1]))
    row("ExecutionNotWritable", name, sent_with_account(name, EXECUTION, is_writable=False))
    if "requester" in roles:
        row("RequesterNotSigner", name, sent_with_account(name, REQUESTER, is_signer=False))
    for first in range(len(roles)):
        for second in range(first + 1, len(roles)):
            row(
                "DuplicateAccount",
                f"{name}, {roles[first]} as {roles[second]}",
                sent_with_accounts(
                    name,
                    lambda _, metas, first=first, second=second: [
                        *metas[:second],
                        AccountMeta(metas[first].pubkey, metas[first].is_signer, True),
                        *metas[second + 1 :],
                    ],
                ),
            )
row("RequesterNotWritable", "assign_task", sent_with_account("assign_task", REQUESTER, is_writable=False))
row("RequesterNotWritable", "reclaim", sent_with_account("reclaim", REQUESTER, is_writable=False))
row("NodeNotSigner", "task_completed", sent_with_account("task_completed", 1, is_signer=False))
row("NodeNotSigner", "task_failed", sent_with_account("task_failed", 1, is_signer=False))
row("NodeNotWritable", "task_completed", sent_with_account("task_completed", 1, is_writable=False))
row(
    "WrongSystemProgram",
    "another program",
    sent_with_accounts(
        "assign_task", lambda world, metas: [*metas[:3], AccountMeta(world.chain.program_id, False, False)]
    ),
)


def assigned_by_an_account(owner: Pubkey, data: bytes) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        world.chain.svm.set_account(world.requester.pubkey(), Account(10**10, data, owner))
        return Sent(world.pair.assign_task(world.assignment), (world.stranger, world.requester))

    return send


row("RequesterNotAWallet", "owned by a program", assigned_by_an_account(Pubkey([7] * 32), b""))
row("RequesterNotAWallet", "with data, as a nonce has", assigned_by_an_account(SYSTEM_PROGRAM, b"\0" * 80))


def at_another_address(name: str) -> Callable[[World], Sent]:
    """The account of another pair of the same requester and node."""

    def send(world: World) -> Sent:
        instruction = ready(world, name)
        other = replace(world.pair, task_id="another-task")
        if name != "assign_task":
            terms = replace(world.assignment, task_id="another-task", deadline=world.chain.now + 100)
            world.chain.accepted(other.assign_task(terms), world.requester)
        return Sent(with_account(instruction, EXECUTION, pubkey=other.address), (world.signer(name),))

    return send


for name in INSTRUCTIONS:
    row("WrongAddress", f"{name} with the account of another pair", at_another_address(name))


def at_another_bump(world: World) -> Sent:
    world.assign()
    world.rewrite(lambda data: data.__setitem__(10, data[10] - 1))
    return Sent(world.pair.task_failed(SLOT), (world.node,))


row("WrongAddress", "a bump that does not lead there", at_another_bump)


def by_another(name: str, who: str) -> Callable[[World], Sent]:
    """The second account is another's, who signs for it."""

    def send(world: World) -> Sent:
        instruction = ready(world, name)
        signer: Keypair = getattr(world, who)
        return Sent(with_account(instruction, 1, pubkey=signer.pubkey()), (signer,))

    return send


def unsigned_by_the_node(name: str) -> Callable[[World], Sent]:
    """The requester signs, as an account that the instruction does not ask for."""

    def send(world: World) -> Sent:
        instruction = with_account(ready(world, name), 1, is_signer=False)
        accounts = [*instruction.accounts, AccountMeta(world.requester.pubkey(), True, True)]
        changed = Instruction(instruction.program_id, bytes(instruction.data), accounts)
        return Sent(changed, (world.requester,))

    return send


row("WrongRequester", "cancel_execution by a stranger", by_another("cancel_execution", "stranger"))
row("NodeNotSigner", "task_completed, where the requester signs", unsigned_by_the_node("task_completed"))
row("NodeNotSigner", "task_failed, where the requester signs", unsigned_by_the_node("task_failed"))
for who in ("stranger", "node"):
    row("WrongRequester", f"reclaim by {who}", by_another("reclaim", who))
for who in ("stranger", "requester"):
    row("WrongNode", f"task_completed by {who}", by_another("task_completed", who))
    row("WrongNode", f"task_failed by {who}", by_another("task_failed", who))
row(
    "WrongNode",
    "cancel_execution names another node",
    sent_with_accounts(
        "cancel_execution",
        lambda world, metas: [*metas[:2], AccountMeta(world.stranger.pubkey(), False, False)],
    ),
)


def owned_by(name: str, owner: Pubkey) -> Callable[[World], Sent]:
    """The account is as it should be, under an owner that it should not have."""

    def send(world: World) -> Sent:
        instruction = ready(world, name)
        if name == "assign_task":
            SITUATIONS["failed"](world)
        account = world.account
        world.chain.svm.set_account(world.pair.address, Account(account.lamports, account.data, owner))
        return Sent(instruction, (world.signer(name),))

    return send


def only_funded(name: str) -> Callable[[World], Sent]:
    """Somebody sent lamports to an address at which nothing was ever assigned."""

    def send(world: World) -> Sent:
        instruction = world.instruction(name)
        world.chain.svm.set_account(world.pair.address, Account(10**9, b"", SYSTEM_PROGRAM))
        return Sent(instruction, (world.signer(name),))

    return send


for name in INSTRUCTIONS:
    row("WrongOwner", f"{name} on another program's account", owned_by(name, Pubkey([9] * 32)))
    if name != "assign_task":
        row("WrongOwner", f"{name} on the system program's account", owned_by(name, SYSTEM_PROGRAM))
        row("WrongOwner", f"{name} on an address that was only funded", only_funded(name))


def with_head(name: str, change: Callable[[bytearray], None]) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        SITUATIONS["failed" if name in ("reclaim", "assign_task") else "assigned"](world)
        instruction = world.instruction(name)
        world.rewrite(change)
        return Sent(instruction, (world.signer(name),))

    return send


for name in INSTRUCTIONS:
    row("UnknownLayout", f"{name}, discriminator", with_head(name, lambda data: data.__setitem__(0, 0)))
    row("UnknownLayout", f"{name}, layout 2", with_head(name, lambda data: data.__setitem__(8, 2)))
    row("UnknownLayout", f"{name}, state 4", with_head(name, lambda data: data.__setitem__(9, 4)))
    row("UnknownLayout", f"{name}, cut", with_head(name, lambda data: data.__delitem__(slice(119, None))))


# State, attempt and time have their own file; a row each here.
def in_situation(situation: str, name: str) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        SITUATIONS[situation](world)
        return Sent(world.instruction(name), (world.signer(name),))

    return send


row("StillAssigned", "reclaim while assigned", in_situation("assigned", "reclaim"))
row("NoticeRunning", "reclaim in the notice", in_situation("in notice", "reclaim"))
row("NoticeOver", "task_completed after the notice", in_situation("notice over", "task_completed"))
row("AlreadyCancelled", "cancelled twice", in_situation("in notice", "cancel_execution"))
row("AlreadyFailed", "failed twice", in_situation("failed", "task_failed"))
row("AlreadyCompleted", "paid twice", in_situation("completed", "task_completed"))
row("DeadlinePassed", "completed late", in_situation("past the deadline", "task_completed"))


def for_another_attempt(world: World) -> Sent:
    world.assign()
    return Sent(world.pair.task_completed(SLOT + 1), (world.node,))


def in_the_same_slot(world: World) -> Sent:
    world.assign()
    world.complete()
    return Sent(world.pair.reclaim(), (world.requester,))


row("WrongAttempt", "one higher", for_another_attempt)
row("SameSlot", "reclaimed in the slot of its assignment", in_the_same_slot)


# The lamports.
def under_rent(per_byte: int, threshold: float) -> Callable[[World], Sent]:
    def send(world: World) -> Sent:
        world.chain.svm.set_rent(Rent(per_byte, threshold, 50))
        return Sent(world.pair.assign_task(world.assignment), (world.requester,))

    return send


row("UnknownRentRule", "a threshold of 1.5 years", under_rent(3_480, 1.5))
row("SumOverflow", "rent beyond 64 bits", under_rent(2**63, 1.0))


def paid_by_the_poor(world: World) -> Sent:
    poor = world.chain.wallet(2_000_000)
    pair = replace(world.pair, requester=poor.pubkey())
    return Sent(pair.assign_task(replace(world.assignment, reward=10**9)), (world.stranger, poor))


row("InsufficientFunds", "a reward beyond the purse", paid_by_the_poor)


def without_its_reward(world: World) -> Sent:
    world.assign()
    world.rewrite(lambda _: None, lamports=world.assignment.reward - 1)
    return Sent(world.pair.task_completed(SLOT), (world.stranger, world.node))


row("RewardMissing", "an account that holds less", without_its_reward)


def reclaimed_by_the_richest(world: World) -> Sent:
    SITUATIONS["failed"](world)
    world.chain.svm.set_account(world.requester.pubkey(), Account(2**64 - 1, b"", SYSTEM_PROGRAM))
    return Sent(world.pair.reclaim(), (world.stranger, world.requester))


row("SumOverflow", "a refund beyond 64 bits", reclaimed_by_the_richest)


def reclaimed_at_the_end_of_time(world: World) -> Sent:
    SITUATIONS["past the grace"](world)
    world.rewrite(lambda data: data.__setitem__(slice(88, 96), struct.pack("<q", 2**63 - 1)))
    return Sent(world.pair.reclaim(), (world.requester,))


row("SumOverflow", "a grace beyond 64 bits", reclaimed_at_the_end_of_time)


def at_the_end_of_the_clock(name: str) -> Callable[[World], Sent]:
    """The chain's clock stands at its last second but one."""

    def send(world: World) -> Sent:
        instruction = ready(world, name)
        world.chain.set_clock(2**63 - 2, world.chain.slot + 1)
        if name == "assign_task":
            instruction = world.pair.assign_task(replace(world.assignment, deadline=2**63 - 1))
        return Sent(instruction, (world.signer(name),))

    return send


def completed_by_the_richest(world: World) -> Sent:
    world.assign()
    world.chain.svm.set_account(world.node.pubkey(), Account(2**64 - 1, b"", SYSTEM_PROGRAM))
    return Sent(world.pair.task_completed(SLOT), (world.stranger, world.node))


row("SumOverflow", "a deadline's limit beyond 64 bits", at_the_end_of_the_clock("assign_task"))
row("SumOverflow", "a notice beyond 64 bits", at_the_end_of_the_clock("cancel_execution"))
row("SumOverflow", "a reward to who holds all that 64 bits can", completed_by_the_richest)


@pytest.mark.parametrize(("error", "wrong", "send"), ROWS, ids=[f"{error}-{wrong}" for error, wrong, _ in ROWS])
def test_it_is_refused_with_its_own_error(error: str, wrong: str, send: Callable[[World], Sent]) -> None:
    world = World()
    sent = send(world)
    before = world.held()
    data = world.chain.account(world.pair.address)
    world.chain.refused(error, sent.instruction, *sent.signers)
    fees = 5_000 * len({signer.pubkey() for signer in sent.signers})
    assert sum(before.values()) - sum(world.held().values()) == fees
    assert world.chain.account(world.pair.address) == data


def test_every_error_of_the_idl_has_a_row() -> None:
    assert {error for error, _, _ in ROWS} == set(ERROR_NAMES.values())
