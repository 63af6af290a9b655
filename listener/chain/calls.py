"""What a transaction called of the program, at top level and inner, and the events that it wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.events import FIRST_CPI_INDEX, cpi_events, parse_logs
from listener.chain.idl import Event, Program
from listener.chain.idl_address import EXECUTION_ACCOUNT
from listener.chain.rpc import InnerInstruction, TransactionRead
from listener.chain.transactions import CompiledInstruction, ParsedTransaction, parse_transaction
from shared.errors import EventInvalid, RpcInvalid


@dataclass(frozen=True, slots=True)
class Call:
    """One instruction of the program. Names are the IDL's, in snake_case."""

    name: str
    args: Mapping[str, Any]
    keys: tuple[Pubkey, ...]
    """The accounts that it was given, in order."""
    accounts: Mapping[str, Pubkey]
    signing: frozenset[str]
    """The accounts that must sign, by the IDL."""

    @property
    def execution(self) -> Pubkey | None:
        return self.accounts.get(EXECUTION_ACCOUNT)

    def agrees_with(self, values: Mapping[str, object]) -> bool:
        """Whether no argument says other than `values` do."""
        return all(self.args.get(name, value) == value for name, value in values.items())


@dataclass(frozen=True, slots=True)
class Proof:
    """A transaction that succeeded and whose signatures hold; `signers[0]` paid the fee."""

    signers: tuple[Pubkey, ...]
    calls: tuple[Call, ...]
    """In the order in which they ran."""
    events: tuple[Event, ...]


def read_proof(program: Program, signature: Signature, read: TransactionRead) -> Proof | None:
    """None where it failed, cannot be read, or is not the one that the signature signs."""
    if read.err is not None:
        return None
    try:
        parsed = parse_transaction(read.raw)
    except RpcInvalid:
        return None
    if parsed.signatures[0] != signature or not parsed.is_signed():
        return None
    signers = parsed.static_keys[: parsed.signers]
    return Proof(signers, _calls(program, parsed, read), _events(program, parsed, read))


def calls(program: Program, read: TransactionRead) -> tuple[Call, ...]:
    """The program's instructions in the order in which they ran. Raises RpcInvalid; signatures are not checked."""
    return _calls(program, parse_transaction(read.raw), read)


def called_events(program_id: Pubkey, read: TransactionRead) -> list[tuple[int, bytes]]:
    """Those that the program wrote by calling itself. Raises RpcInvalid."""
    return _called_events(program_id, parse_transaction(read.raw), read) if read.inner else []


def _calls(program: Program, parsed: ParsedTransaction, read: TransactionRead) -> tuple[Call, ...]:
    keys = (*parsed.static_keys, *read.loaded_addresses)
    found: list[Call] = []
    for index, top in enumerate(parsed.instructions):
        ran: tuple[CompiledInstruction | InnerInstruction, ...] = (top, *read.inner.get(index, ()))
        for one in ran:
            call = _call(program, one, keys)
            if call is not None:
                found.append(call)
    return tuple(found)


def _call(
    program: Program, called: CompiledInstruction | InnerInstruction, keys: tuple[Pubkey, ...]
) -> Call | None:
    used = (called.program_index, *called.account_indices)
    if max(used) >= len(keys) or keys[called.program_index] != program.program_id:
        return None
    decoded = program.decode_instruction(called.data)
    if decoded is None:
        return None
    name, args = decoded
    specs = program.account_specs(name)
    given = tuple(keys[index] for index in called.account_indices)
    named = {spec.name: key for spec, key in zip(specs, given, strict=False)}
    return Call(name, args, given, named, frozenset(spec.name for spec in specs if spec.is_signer))


def _called_events(
    program_id: Pubkey, parsed: ParsedTransaction, read: TransactionRead
) -> list[tuple[int, bytes]]:
    keys = (*parsed.static_keys, *read.loaded_addresses)
    events: list[bytes] = []
    for index, called in sorted(read.inner.items()):
        if index < len(parsed.instructions):
            program_index = parsed.instructions[index].program_index
            if program_index < len(keys):
                events += cpi_events(keys[program_index], called, keys, program_id)
    return list(enumerate(events, start=FIRST_CPI_INDEX))


def _events(program: Program, parsed: ParsedTransaction, read: TransactionRead) -> tuple[Event, ...]:
    """Those of a log with a gap are left out: the instructions' own arguments may say enough."""
    logged = parse_logs(read.logs, str(program.program_id)).events
    found: list[Event] = []
    for _, raw in (*logged, *_called_events(program.program_id, parsed, read)):
        try:
            event = program.decode_event(raw)
        except EventInvalid:
            continue
        if event is not None:
            found.append(event)
    return tuple(found)
