"""The same mutants in LiteSVM with the v0 build and on a real validator with the v3 build: the same errors."""

import base64
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from solders.account import Account
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from tests.needs import needs
from tests.program.chain import ERROR_NAMES, Chain, build
from tests.program.instructions import Assignment, Builder
from tests.program.mutants import Cast, mutated, rightful
from tests.program.validator import Rpc, validator

SIZE = 10_000 if os.environ.get("FULL") == "1" else 1_000
SEED = 5
PACKET_BYTES = 1_232
BATCH = 50
LANDED_WITHIN_S = 100
FAR_S = 3_600
"""Every time in an account is this far from now, so that the two clocks need not agree."""
ATTEMPT = 1

SITUATIONS = ("never", "assigned", "past the grace", "in notice", "notice over", "failed", "completed")


def prepare(cast: Cast, pair: Builder, situation: str, now: int) -> None:
    """Bring the pair there, by transactions at the times that it takes."""
    if situation == "never":
        return
    chain = cast.chain
    over = situation in ("past the grace", "notice over")
    chain.set_clock(now - 2 * FAR_S if over else now, ATTEMPT)
    deadline = now - FAR_S if situation == "past the grace" else now + 2 * FAR_S
    terms = Assignment(task_id=pair.task_id, deadline=deadline)
    chain.accepted(pair.assign_task(terms), cast.payer, cast.keys[pair.requester])
    if situation == "in notice":
        chain.set_clock(now + FAR_S, ATTEMPT)
    step = {
        "in notice": pair.cancel_execution,
        "notice over": pair.cancel_execution,
        "failed": lambda: pair.task_failed(ATTEMPT),
        "completed": lambda: pair.task_completed(ATTEMPT),
    }.get(situation)
    if step:
        instruction = step()
        chain.accepted(instruction, *cast.signers(instruction))


def transaction(cast: Cast, instruction: Instruction, blockhash: Hash) -> Transaction:
    return Transaction(cast.signers(instruction), Message([instruction], cast.payer.pubkey()), blockhash)


def population(cast: Cast, now: int) -> dict[Pubkey, Instruction]:
    """One mutant for each pair's address, so that the order in which they run does not matter."""
    draw = random.Random(SEED)
    mutants: dict[Pubkey, Instruction] = {}
    number = 0
    bystander = cast.pair(0, "decoy").address
    while len(mutants) < SIZE:
        number += 1
        pair = cast.pair(number, f"task-{number}")
        situation = draw.choice(SITUATIONS)
        attempt = None if situation == "never" else ATTEMPT
        instruction = rightful(draw, pair, attempt, now + FAR_S)
        if draw.random() < 0.9:
            instruction = mutated(draw, instruction, cast, [bystander])
        if len(bytes(transaction(cast, instruction, Hash.default()))) > PACKET_BYTES:
            continue
        prepare(cast, pair, situation, now)
        mutants[pair.address] = instruction
    return mutants


def everything(cast: Cast, pairs: Iterable[Pubkey]) -> dict[Pubkey, Account]:
    """All accounts that are there before the mutants run."""
    addresses = {*cast.keys, *cast.decoys, cast.pair(0, "decoy").address, *pairs}
    found = {address: cast.chain.account(address) for address in addresses}
    return {address: account for address, account in found.items() if account}


def on_validator(rpc: Rpc, cast: Cast, mutants: list[Instruction]) -> list[str]:
    latest = rpc("getLatestBlockhash", {"commitment": "confirmed"})
    blockhash = Hash.from_string(latest["value"]["blockhash"])  # type: ignore[index]
    signed = [transaction(cast, mutant, blockhash) for mutant in mutants]
    signatures = [str(one.signatures[0]) for one in signed]
    missing = signed
    end = time.monotonic() + LANDED_WITHIN_S
    while time.monotonic() < end:
        send(rpc, missing)  # and again what a busy validator has dropped: the same bytes land once
        time.sleep(2)
        statuses = [
            status for at in range(0, SIZE, 250) for status in read_statuses(rpc, signatures[at : at + 250])
        ]
        if all(statuses):
            return [name_of(status["err"]) for status in statuses]  # type: ignore[index]
        missing = [one for one, status in zip(signed, statuses, strict=True) if status is None]
    raise AssertionError(f"{len(missing)} of {SIZE} transactions did not land")


def send(rpc: Rpc, transactions: list[Transaction]) -> None:
    options = {"encoding": "base64", "skipPreflight": True, "maxRetries": 5}
    for at in range(0, len(transactions), BATCH):
        encoded = [base64.b64encode(bytes(one)).decode() for one in transactions[at : at + BATCH]]
        rpc.batch([("sendTransaction", (one, options)) for one in encoded])


def read_statuses(rpc: Rpc, signatures: list[str]) -> list[dict[str, object] | None]:
    return rpc("getSignatureStatuses", signatures)["value"]  # type: ignore[index, no-any-return]


def name_of(error: object) -> str:
    match error:
        case None:
            return "accepted"
        case {"InstructionError": [0, {"Custom": int(code)}]}:
            return ERROR_NAMES.get(code, str(code))
        case _:
            return str(error)


@pytest.mark.validator
@pytest.mark.timeout(600 if SIZE > 1_000 else 300)
def test_the_same_mutants_end_alike_on_a_real_validator(tmp_path: Path) -> None:
    needs("solana-test-validator", "the v3 build is run on a real validator")
    now = int(time.time())
    cast = Cast(Chain())
    by_pair = population(cast, now)
    genesis = everything(cast, by_pair)
    mutants = list(by_pair.values())
    cast.chain.set_clock(now, 100)
    in_process = [cast.chain.send(mutant, *cast.signers(mutant)).error or "accepted" for mutant in mutants]
    program = tmp_path / "splitup.v3.so"
    program.write_bytes(build("v3"))
    with validator(genesis, {cast.chain.program_id: program}) as rpc:
        on_chain = on_validator(rpc, cast, mutants)
    differing = [
        (mutant, there, here)
        for mutant, there, here in zip(mutants, on_chain, in_process, strict=True)
        if there != here
    ]
    assert not differing, differing[:3]
    seen = Counter(on_chain)
    assert set(seen) <= {*ERROR_NAMES.values(), "accepted"}
    assert len(seen) > 25, seen
    print(dict(seen.most_common()))
