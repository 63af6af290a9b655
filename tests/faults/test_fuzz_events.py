"""Events: no exception outside the error tree, and none accepted that our program did not write."""

import random

import pytest
from solders.pubkey import Pubkey

from listener.chain import answers
from listener.chain.accounts import verify
from listener.chain.answers import Account, InnerInstruction, TransactionRead
from listener.chain.calls import called_events, calls, read_proof
from listener.chain.event_types import ExecutionCancelled, TaskAssigned
from listener.chain.events import EMIT_CPI_TAG, cpi_events, parse_logs
from listener.chain.sieve import Sieve
from shared.errors import AccountInvalid, ChainError, EventInvalid, RpcInvalid
from shared.ids import Slot
from tests.faults.conftest import FULL
from tests.faults.fuzz import OURS, STRANGERS, Run, broken, event, spoiled, transaction_log
from tests.unit.chain_bytes import ADDRESS, PROGRAM_ID
from tests.unit.listener_world import KEY, NODE, PROGRAM
from tests.unit.listener_world import OURS as ACCOUNT
from tests.unit.other_transactions import ASSIGN, CANCEL, COMPLETE, REQUESTER, signed

INPUTS = 1_000_000 if FULL else 20_000
LIMIT_S = 7_200 if FULL else 300
SIEVE = Sieve(PROGRAM_ID, NODE)


def told(raws: list[bytes]) -> list[object]:
    """The events of this node among them. Raises nothing but EventInvalid on the way."""
    found: list[object] = []
    for raw in raws:
        try:
            decoded = PROGRAM.decode_event(raw)
        except EventInvalid:
            continue
        if isinstance(decoded, TaskAssigned | ExecutionCancelled) and decoded.assigned_node == NODE:
            found.append(decoded)
    return found


def check(run: Run) -> int:
    """Of a log that the runtime wrote. Returns the number of events that were accepted."""
    log = run.log
    parsed = parse_logs(log, OURS)
    accepted = [raw for _, raw in parsed.events]
    if "Log truncated" in log:
        assert parsed.truncated and not accepted
    else:
        assert not parsed.truncated and accepted == run.written
        assert parsed.calls_itself == run.calls_itself
    ours = told(accepted)
    if not SIEVE.may_tell(log):
        assert not ours and not parsed.truncated and not parsed.calls_itself
    return len(ours)


@pytest.mark.timeout(LIMIT_S)
def test_of_whatever_programs_write_only_ours_is_accepted(seed: str) -> None:
    rng = random.Random(seed)
    accepted = sum(check(transaction_log(rng)) for _ in range(INPUTS))
    assert accepted > INPUTS / 100


@pytest.mark.timeout(LIMIT_S)
def test_a_log_that_was_changed_on_its_way_ends_no_process(seed: str) -> None:
    """What an endpoint invents may look like an event; then the account decides."""
    rng = random.Random(seed)
    for _ in range(INPUTS):
        lines = list(transaction_log(rng).log)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(lines) + 1)
            match rng.randrange(4):
                case 0:
                    del lines[at : at + 1]
                case 1:
                    lines[at:at] = lines[:2]
                case 2:
                    rng.shuffle(lines)
                case _:
                    lines = [line[: rng.randrange(120)] if rng.random() < 0.2 else line for line in lines]
        SIEVE.may_tell(lines)
        told([raw for _, raw in parse_logs(lines, OURS).events])


@pytest.mark.timeout(LIMIT_S)
def test_bytes_that_are_no_event_are_none(seed: str) -> None:
    rng = random.Random(seed)
    for _ in range(INPUTS):
        raw = spoiled(event(rng), rng)
        try:
            decoded = PROGRAM.decode_event(raw)
        except EventInvalid:
            continue
        assert decoded is None or isinstance(decoded, TaskAssigned | ExecutionCancelled)


@pytest.mark.timeout(LIMIT_S)
def test_only_where_the_program_calls_itself_an_inner_instruction_is_an_event(seed: str) -> None:
    rng = random.Random(seed)
    keys = [PROGRAM_ID, *STRANGERS]
    for _ in range(INPUTS):
        top = rng.choice(keys)
        called, written = _called(rng, top, keys)
        assert cpi_events(top, called, keys, PROGRAM_ID) == written
        forged = [
            InnerInstruction(rng.randrange(6), (), EMIT_CPI_TAG + event(rng), rng.choice([None, 0, 1, 2, 3, 9]))
            for _ in range(rng.randrange(5))
        ]
        assert len(cpi_events(top, [*called, *forged], keys, PROGRAM_ID)) <= len(written) + len(forged)


def _called(rng: random.Random, top: Pubkey, keys: list[Pubkey]) -> tuple[list[InnerInstruction], list[bytes]]:
    """What one instruction called, in the order in which it ran, and the events among it."""
    stack = [top]
    called: list[InnerInstruction] = []
    written: list[bytes] = []
    for _ in range(rng.randrange(8)):
        while len(stack) > 1 and rng.random() < 0.5:
            stack.pop()
        callee = rng.randrange(len(keys))
        raw = event(rng)
        is_tagged = rng.random() < 0.7
        if is_tagged and keys[callee] == stack[-1] == PROGRAM_ID:
            written.append(raw)
        stack.append(keys[callee])
        called.append(InnerInstruction(callee, (), (EMIT_CPI_TAG if is_tagged else b"") + raw, len(stack)))
    return called, written


TRANSACTIONS = [
    signed(ASSIGN, slot=5, payer=REQUESTER),
    signed(CANCEL, slot=6, payer=REQUESTER),
    signed(COMPLETE, slot=7, payer=KEY),
]


@pytest.mark.timeout(LIMIT_S)
def test_a_transaction_that_is_none_ends_no_process(seed: str) -> None:
    rng = random.Random(seed)
    for _ in range(INPUTS // 4):
        real = rng.choice(TRANSACTIONS)
        raw = bytes(real) if rng.random() < 0.1 else spoiled(bytes(real), rng)
        inner = {0: (InnerInstruction(rng.randrange(9), (rng.randrange(9),), event(rng), rng.randrange(4)),)}
        read = TransactionRead(Slot(5), raw, None, transaction_log(rng).log, inner, (), None)
        try:
            calls(PROGRAM, read)
            called_events(PROGRAM_ID, read)
        except RpcInvalid:
            pass
        proof = read_proof(PROGRAM, real.signatures[0], read)
        assert proof is None or raw == bytes(real)


ANSWER = {
    "slot": 5,
    "blockTime": 1_700_000_000,
    "transaction": ["AAAA", "base64"],
    "meta": {
        "err": {"InstructionError": [0, {"Custom": 6_001}]},
        "logMessages": ["one", "two"],
        "loadedAddresses": {"writable": [str(NODE)], "readonly": []},
        "innerInstructions": [
            {
                "index": 0,
                "instructions": [{"programIdIndex": 1, "accounts": [0], "data": "3Bxs", "stackHeight": 2}],
            }
        ],
    },
}
ROW = {"signature": "1" * 64, "slot": 5, "err": None, "blockTime": None}


@pytest.mark.timeout(LIMIT_S)
def test_an_answer_that_is_none_is_an_error_of_the_tree(seed: str) -> None:
    rng = random.Random(seed)
    for _ in range(INPUTS):
        try:
            answers.transaction(broken(ANSWER, rng))
            answers.signature_row(broken(ROW, rng))
        except ChainError:
            pass


@pytest.mark.timeout(LIMIT_S)
def test_an_account_that_is_none_is_invalid(seed: str) -> None:
    rng = random.Random(seed)
    for _ in range(INPUTS // 4):
        raw = spoiled(bytes(ACCOUNT), rng)
        try:
            execution = verify(PROGRAM, Account(ACCOUNT.account().lamports, PROGRAM_ID, raw), ADDRESS, NODE)
        except AccountInvalid:
            continue
        assert (execution.execution_id, execution.task_id) == (ACCOUNT.execution_id, ACCOUNT.task_id)
