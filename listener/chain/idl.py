"""The program, known by its id and its IDL alone: instructions, events and accounts, encoded and decoded by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from listener.chain.event_types import (
    EVENT_FIELDS,
    STATE,
    Event,
    ExecutionCancelled,
    TaskAssigned,
    TaskCompleted,
    TaskFailed,
    typed_event,
)
from listener.chain.idl_address import EXECUTION_ACCOUNT, address_rule
from listener.chain.idl_checks import EXECUTION, check, missing_of_account
from listener.chain.idl_coder import HEAD, Coder, account_kind, args_kind, event_kind
from listener.chain.idl_layout import AccountMetaSpec, Field, Idl, InstructionSpec, Struct, fold, read_idl, snake
from listener.chain.idl_offsets import fixed_fields, fixed_size
from shared.errors import AccountInvalid, EventInvalid, IdlInvalid, InvalidId

__all__ = [
    "Event",
    "ExecutionCancelled",
    "Program",
    "TaskAssigned",
    "TaskCompleted",
    "TaskFailed",
    "load_idl",
]

INSTRUCTIONS: Final = frozenset(
    {"assigntask", "cancelexecution", "taskcompleted", "taskfailed", "reclaim"},
)
STATES: Final = ("Assigned", "Cancelled", "Failed", "Completed")


def load_idl(source: Path | Mapping[str, object], program_id: Pubkey) -> "Program":
    """Read an IDL (spec 0.1.0, or the layout before it). Raises IdlInvalid, which says what is missing."""
    document: object = source
    if isinstance(source, Path):
        try:
            document = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise IdlInvalid(f"cannot read the IDL {source}: {error}") from error
    wanted = frozenset(fold(name) for name in (EXECUTION, *EVENT_FIELDS))
    try:
        idl = read_idl(document, INSTRUCTIONS, wanted)
        check(idl)
        return Program(program_id, idl)
    except RecursionError as error:
        raise IdlInvalid("the IDL's types are nested too deeply") from error


class Program:
    """Arguments, accounts and fields are matched by name, camelCase and snake_case alike."""

    def __init__(self, program_id: Pubkey, idl: Idl) -> None:
        self.program_id = program_id
        self._idl = idl
        self.by_transactions = missing_of_account(idl)
        """Why transactions stand in for the accounts; None where the IDL describes these."""
        self._execution = None if self.by_transactions else idl.accounts[fold(EXECUTION)]
        self._head: tuple[Field, ...] = () if self._execution is None else fixed_fields(self._execution, idl)
        self._coder = Coder(idl, self._head)
        self._state_tags = {} if self._execution is None else self._tags_of_states(self._execution)
        self._address_rule = address_rule(idl)
        self._event_names = {fold(name): name for name in EVENT_FIELDS}

    def mentions(self, node: Pubkey) -> Pubkey:
        """What the feed follows: the node's key where assignments and cancellations name it, else the program."""
        for name in ("assigntask", "cancelexecution"):
            instruction = self._idl.instructions.get(name)
            if instruction is None or all(account.name != "assigned_node" for account in instruction.accounts):
                return self.program_id
        return node

    def encode_instruction(
        self, name: str, args: Mapping[str, object], accounts: Mapping[str, Pubkey]
    ) -> Instruction:
        """Build the instruction `name`. `execution`, where a rule gives it, and the system program may be left out.

        Arguments that the IDL does not have are left out. Raises IdlInvalid where the IDL asks for more than was
        given, or an argument does not fit its type.
        """
        spec = self._instruction(name)
        given = {snake(key): value for key, value in args.items()}
        keys = {snake(key): value for key, value in accounts.items()}
        if EXECUTION_ACCOUNT not in keys and (address := self.address_of(given | keys)) is not None:
            keys[EXECUTION_ACCOUNT] = address
        missing = [field.name for field in spec.args if field.name not in given]
        if missing:
            raise IdlInvalid(f"the IDL's {spec.name} asks for {', '.join(missing)}, which the node does not know")
        metas = [
            AccountMeta(_key_of(meta, keys, spec), meta.is_signer, meta.is_writable) for meta in spec.accounts
        ]
        try:
            encoded = self._coder.encode(args_kind(spec), given)
        except ValueError as error:
            raise IdlInvalid(f"the arguments do not fit the IDL's {spec.name}: {error}") from error
        return Instruction(self.program_id, spec.discriminator + encoded, metas)

    def decode_instruction(self, raw: bytes) -> tuple[str, dict[str, object]] | None:
        """Name (snake_case) and arguments, or None where it is none of those that the node knows."""
        for spec in self._idl.instructions.values():
            if raw.startswith(spec.discriminator):
                try:
                    return spec.name, self._coder.decode(args_kind(spec), raw[len(spec.discriminator) :])
                except ValueError:
                    return None
        return None

    def takes_attempt(self, name: str) -> bool:
        """Whether the instruction says for which attempt it is meant."""
        return any(argument.name == "attempt" for argument in self._instruction(name).args)

    def account_specs(self, name: str) -> tuple[AccountMetaSpec, ...]:
        """The accounts of the instruction, in order."""
        return self._instruction(name).accounts

    def decode_event(self, raw: bytes) -> Event | None:
        """The event, or None where the node does not know its discriminator. Raises EventInvalid."""
        for folded, struct in self._idl.events.items():
            if raw.startswith(struct.discriminator):
                try:
                    fields = self._coder.decode(event_kind(struct), raw[len(struct.discriminator) :])
                    return typed_event(self._event_names[folded], fields)
                except (ValueError, InvalidId) as error:
                    raise EventInvalid(f"the event {struct.name} is not well formed: {error}") from error
        return None

    def decode_account(self, raw: bytes) -> dict[str, object]:
        """The fields of an execution account; enums as their variant's name. Raises AccountInvalid."""
        return self._decode_execution(account_kind(self._described), raw)

    def decode_head(self, raw: bytes) -> dict[str, object]:
        """The same of an account's first `head_length` bytes: the fields before the first of variable length."""
        return self._decode_execution(HEAD, raw[: self.head_length])

    @property
    def head_length(self) -> int:
        sizes = (fixed_size(field.type, self._idl) or 0 for field in self._head)
        return len(self.discriminator) + sum(sizes)

    @property
    def discriminator(self) -> bytes:
        """How the bytes of an execution account begin."""
        return self._described.discriminator

    def offset_of(self, field: str) -> int:
        """Where a field of the account's fixed head begins. Raises IdlInvalid where that is not fixed."""
        offset = len(self.discriminator)
        for one in self._head:
            if one.name == snake(field):
                return offset
            offset += fixed_size(one.type, self._idl) or 0
        raise IdlInvalid(f"the field {field} of the account {EXECUTION} has no fixed offset")

    def state_tag(self, state: str) -> bytes:
        """The byte that stands for a state, by the variant's name in the IDL, such as `Assigned`."""
        return self._state_tags[state]

    def error_name(self, code: int) -> str | None:
        """The IDL's name of a custom error."""
        return self._idl.errors.get(code)

    def execution_address(self, execution_id: str, task_id: str) -> Pubkey:
        """The account of the pair. Raises InvalidId, and IdlInvalid where the ids alone do not give it."""
        address = self.address_of({"execution_id": execution_id, "task_id": task_id})
        if address is None:
            raise IdlInvalid("the IDL does not say at which address the account of a pair lies")
        return address

    def address_of(self, known: Mapping[str, object]) -> Pubkey | None:
        """The account by what is known of an assignment (ids, terms, keys). None: no rule, or it asks for more.

        Raises InvalidId.
        """
        by_another_name = {"authority": known["requester"]} if "requester" in known else {}
        return self._address_rule.address(by_another_name | dict(known), self.program_id)

    @property
    def _described(self) -> Struct:
        if self._execution is None:
            raise IdlInvalid(str(self.by_transactions))
        return self._execution

    def _instruction(self, name: str) -> InstructionSpec:
        spec = self._idl.instructions.get(fold(name))
        if spec is None:
            raise IdlInvalid(f"the IDL has no instruction {name}")
        return spec

    def _decode_execution(self, kind: str, raw: bytes) -> dict[str, object]:
        discriminator = self.discriminator
        if not raw.startswith(discriminator):
            raise AccountInvalid("the account does not begin with the discriminator of an execution")
        try:
            return self._coder.decode(kind, raw[len(discriminator) :])
        except ValueError as error:
            raise AccountInvalid(f"the account is not laid out as the IDL says: {error}") from error

    def _tags_of_states(self, execution: Struct) -> dict[str, bytes]:
        kinds = {field.name: field.type for field in execution.fields}
        match kinds.get(STATE):
            case {"defined": str(name)}:
                variants = self._idl.types[fold(name)].variants
            case _:
                variants = ()
        tags = {variant: bytes([index]) for index, variant in enumerate(variants[:256])}
        if not set(STATES) <= tags.keys():
            raise IdlInvalid(f"the state of the IDL's Execution is not an enum with {', '.join(STATES)}")
        return tags


def _key_of(meta: AccountMetaSpec, keys: Mapping[str, Pubkey], spec: InstructionSpec) -> Pubkey:
    key = keys.get(meta.name, meta.address)
    if key is None:
        raise IdlInvalid(f"the IDL's {spec.name} has an account {meta.name}, which the node does not know")
    return key
