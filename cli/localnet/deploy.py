"""Deploys a program through the upgradeable loader, by transactions alone: on any cluster."""

import asyncio
import struct
from collections.abc import Sequence
from typing import Final, Literal

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import CreateAccountParams, create_account

from listener.chain.rpc import MAX_STATUSES, Rpc
from program import program_bytes
from requester.sending import send, signed
from shared.errors import TransactionExpired, TransactionRefused

LOADER: Final = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
RENT: Final = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
CLOCK: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
BUFFER_HEAD: Final = 37
"""Bytes before the program's own in a buffer account."""
PROGRAM_ACCOUNT: Final = 36
CHUNK: Final = 960
"""Bytes of the program in one transaction."""
ROUND_S: Final = 2.0
"""After so long the chunks that are not confirmed are sent again."""
ROUNDS: Final = 30

Version = Literal["v3", "v0"]
_INITIALIZE_BUFFER, _WRITE, _DEPLOY, _CLOSE = 0, 1, 2, 5


async def deploy(rpc: Rpc, payer: Keypair, program: Keypair) -> Version:
    """Deploy the reference program at `program`'s address; `payer` becomes its upgrade authority.

    Which of the two builds a cluster takes follows from its features, whose addresses change between releases of
    the validator: so the newer build is tried, and the older one where the loader refuses that.
    """
    try:
        await _deploy(rpc, payer, program, program_bytes("v3"))
    except TransactionRefused as refused:
        try:
            await _deploy(rpc, payer, program, program_bytes("v0"))
        except TransactionRefused:
            raise refused from None
        return "v0"
    return "v3"


async def _deploy(rpc: Rpc, payer: Keypair, program: Keypair, elf: bytes) -> None:
    buffer = Keypair()
    await _make_buffer(rpc, payer, buffer, len(elf))
    try:
        await _write(rpc, payer, buffer.pubkey(), elf)
        await _deploy_buffer(rpc, payer, buffer.pubkey(), program, len(elf))
    except TransactionRefused:
        await send(rpc, [_close(payer.pubkey(), buffer.pubkey())], [payer])
        raise


async def _make_buffer(rpc: Rpc, payer: Keypair, buffer: Keypair, length: int) -> None:
    size = BUFFER_HEAD + length
    new = CreateAccountParams(
        from_pubkey=payer.pubkey(),
        to_pubkey=buffer.pubkey(),
        lamports=await rpc.get_rent(size),
        space=size,
        owner=LOADER,
    )
    initialize = Instruction(
        LOADER,
        struct.pack("<I", _INITIALIZE_BUFFER),
        [AccountMeta(buffer.pubkey(), False, True), AccountMeta(payer.pubkey(), False, False)],
    )
    await send(rpc, [create_account(new), initialize], [payer, buffer])


async def _write(rpc: Rpc, payer: Keypair, buffer: Pubkey, elf: bytes) -> None:
    """All chunks at once, then again those that the chain does not show: each may land more than once."""
    chunks = [(offset, elf[offset : offset + CHUNK]) for offset in range(0, len(elf), CHUNK)]
    left = [_write_instruction(payer.pubkey(), buffer, offset, chunk) for offset, chunk in chunks]
    for _ in range(ROUNDS):
        blockhash = (await rpc.get_latest_blockhash()).blockhash
        left = await _write_round(rpc, payer, left, blockhash)
        if not left:
            return
    raise TransactionExpired(f"{len(left)} of {len(chunks)} writes of the program were not taken up")


async def _write_round(
    rpc: Rpc, payer: Keypair, writes: Sequence[Instruction], blockhash: Hash
) -> list[Instruction]:
    """Send each; returns those that are not confirmed after ROUND_S."""
    raws = [signed([write], [payer], blockhash) for write in writes]
    async with asyncio.TaskGroup() as group:
        sent = [group.create_task(rpc.send_transaction(raw, skip_preflight=True)) for raw in raws]
    waiting = {task.result(): write for task, write in zip(sent, writes, strict=True)}
    end = asyncio.get_running_loop().time() + ROUND_S
    while waiting and asyncio.get_running_loop().time() < end:
        for signature in await _confirmed(rpc, list(waiting)):
            del waiting[signature]
        await asyncio.sleep(0.1)
    return list(waiting.values())


async def _confirmed(rpc: Rpc, signatures: list[Signature]) -> list[Signature]:
    asked = signatures[:MAX_STATUSES]
    statuses = (await rpc.get_signature_statuses(asked)).statuses
    return [
        signature
        for signature, status in zip(asked, statuses, strict=True)
        if status is not None and status.err is None and status.confirmation_status != "processed"
    ]


def _write_instruction(payer: Pubkey, buffer: Pubkey, offset: int, chunk: bytes) -> Instruction:
    return Instruction(
        LOADER,
        struct.pack("<IIQ", _WRITE, offset, len(chunk)) + chunk,
        [AccountMeta(buffer, False, True), AccountMeta(payer, True, False)],
    )


async def _deploy_buffer(rpc: Rpc, payer: Keypair, buffer: Pubkey, program: Keypair, length: int) -> None:
    data_account, _ = Pubkey.find_program_address([bytes(program.pubkey())], LOADER)
    new = CreateAccountParams(
        from_pubkey=payer.pubkey(),
        to_pubkey=program.pubkey(),
        lamports=await rpc.get_rent(PROGRAM_ACCOUNT),
        space=PROGRAM_ACCOUNT,
        owner=LOADER,
    )
    accounts = [
        AccountMeta(payer.pubkey(), True, True),
        AccountMeta(data_account, False, True),
        AccountMeta(program.pubkey(), False, True),
        AccountMeta(buffer, False, True),
        AccountMeta(RENT, False, False),
        AccountMeta(CLOCK, False, False),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(payer.pubkey(), True, False),
    ]
    deploy_it = Instruction(LOADER, struct.pack("<IQ", _DEPLOY, length), accounts)
    landed = await send(rpc, [create_account(new), deploy_it], [payer, program])
    while True:  # it can be called from the next slot on
        if await rpc.get_slot() > landed.slot:
            return
        await asyncio.sleep(0.1)


def _close(payer: Pubkey, buffer: Pubkey) -> Instruction:
    """Give the buffer's lamports back to the payer."""
    accounts = [
        AccountMeta(buffer, False, True),
        AccountMeta(payer, False, True),
        AccountMeta(payer, True, False),
    ]
    return Instruction(LOADER, struct.pack("<I", _CLOSE), accounts)
