"""The outputs of a completed task: found on the chain, checked in storage."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import torch
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.backfill import signatures_since
from listener.chain.calls import calls
from listener.chain.rpc import TransactionRead
from requester.fetch import fetch_tensors
from requester.patience import patiently
from requester.session import Session
from shared.errors import (
    InputInvalid,
    InputMissing,
    InvalidUri,
    OutputInvalid,
    RpcInvalid,
    RpcRefused,
    TooLarge,
)
from shared.ids import Attempt, Slot, TaskKey
from shared.uris import ALL_TENSORS, ObjectUri, TensorUri, parse_tensor_uri, relative_key

LISTED_S: Final = 30.0
"""An endpoint lists a signature a little later than it shows what the transaction did."""
LOOK_EVERY_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Ending:
    """The transaction that ended a task. `arguments` are its instruction's, by the IDL's names."""

    name: str
    signature: Signature
    slot: Slot
    arguments: dict[str, Any]

    @property
    def output_uris(self) -> tuple[str, ...]:
        return tuple(self.arguments["output_uris"])

    @property
    def execution_time_ms(self) -> int:
        return int(self.arguments["execution_time"])


async def find_ending(session: Session, pair: TaskKey, attempt: Attempt, name: str) -> Ending | None:
    """The successful `name` (task_completed or task_failed) of this attempt, at top level or inner.

    None where the endpoint lists no such transaction, or gives none that can be read, for LISTED_S. Raises ChainError.
    """
    address = session.program.execution_address(pair.execution_id, pair.task_id)
    seen: set[Signature] = set()

    async def look() -> Ending | None:
        with suppress(RpcInvalid, RpcRefused):
            async for ending in _listed_endings(session, address, attempt, seen):
                if ending.name == name and ending.arguments.get("attempt", attempt) == attempt:
                    return ending
        return None

    end = session.clock.monotonic() + LISTED_S
    while True:
        ending = await patiently(look, session.clock)
        if ending is not None or session.clock.monotonic() >= end:
            return ending
        await session.clock.sleep(LOOK_EVERY_S)


async def _listed_endings(
    session: Session, address: Pubkey, attempt: Attempt, seen: set[Signature]
) -> AsyncIterator[Ending]:
    """Of the account's transactions that are not among `seen`, newest first, down to the attempt's slot."""
    async for page in signatures_since(session.rpc, address, Slot(attempt)):
        for row in page:
            if row.err is not None or row.signature in seen:
                continue
            read = await _transaction(session, row.signature)
            if read is not None:
                seen.add(row.signature)
                for ending in _endings(session, row.signature, read, address):
                    yield ending


async def _transaction(session: Session, signature: Signature) -> TransactionRead | None:
    """None where the endpoint has it not, or gives what cannot be read: anybody may name the account in such a one."""
    try:
        return await session.rpc.get_transaction(signature)
    except (RpcInvalid, RpcRefused):
        return None


def _endings(session: Session, signature: Signature, read: TransactionRead, address: Pubkey) -> Iterator[Ending]:
    """What of the program the transaction called on this account."""
    if read.err is not None:
        return
    try:
        called = calls(session.program, read)
    except RpcInvalid:
        return
    for call in called:
        if address in call.keys:
            yield Ending(call.name, signature, read.slot, dict(call.args))


async def fetch_outputs(
    session: Session, pair: TaskKey, uris: tuple[str, ...], count: int
) -> list[tuple[str, torch.Tensor]]:
    """Each output's own URI and its tensor, once all were found where they must lie, with the hash in their names.

    Raises OutputInvalid, and StorageUnavailable.
    """
    outputs: list[tuple[str, torch.Tensor]] = []
    for text in uris:
        uri = _checked_place(session, pair, text)
        try:
            tensors = await fetch_tensors(session.storage, uri)
        except (InputMissing, InputInvalid, TooLarge) as error:
            raise OutputInvalid(f"{pair}: {error}") from error
        if uri.fragment == ALL_TENSORS:
            outputs += [(str(TensorUri(uri.object, str(place))), each) for place, each in enumerate(tensors)]
        else:
            outputs += [(text, each) for each in tensors]
    if len(outputs) != count:
        raise OutputInvalid(f"{pair}: {len(outputs)} outputs are there, {count} were expected")
    return outputs


def _checked_place(session: Session, pair: TaskKey, text: str) -> TensorUri:
    try:
        uri = parse_tensor_uri(text)
    except InvalidUri as error:
        raise OutputInvalid(f"{pair}: {error}") from error
    folder = f"{session.requester}/{pair.execution_id}/{pair.task_id}"
    if uri.object.content_hash is None or not _lies_in(session.allowed_prefixes, folder, uri.object):
        raise OutputInvalid(
            f"{pair}: the output {text} does not lie where it must: <allowed prefix>/{folder}/<sha256>.safetensors"
        )
    return uri


def _lies_in(prefixes: tuple[ObjectUri, ...], folder: str, uri: ObjectUri) -> bool:
    relative = (relative_key(prefix, uri) for prefix in prefixes)
    return any(key is not None and key.rpartition("/")[0] == folder for key in relative)
