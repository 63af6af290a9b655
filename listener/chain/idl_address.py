"""Where execution accounts lie: by the rule that the IDL names, or by the seeds that it states."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.idl_layout import Idl, InstructionSpec, snake
from listener.chain.idl_seeds import Seed
from shared.errors import IdlInvalid, InvalidId

RULE: Final = "EXECUTION_ADDRESS"
EXECUTION_ACCOUNT: Final = "execution"
"""What the instructions call the account of the pair."""
MAX_SEEDS: Final = 15
MAX_SEED_BYTES: Final = 32
"""Of the runtime; the bump is one more seed."""
_INTEGER_BYTES: Final = {f"{sign}{8 * size}": size for size in (1, 2, 4, 8) for sign in "ui"}
_SEEDS_STAND_IN: Final = ("assigntask", "taskcompleted", "cancelexecution", "taskfailed", "reclaim")


@dataclass(frozen=True, slots=True)
class HashRule:
    """`"execution"`, and SHA-256 of (length of executionId as one byte, executionId, taskId)."""

    def address(self, known: Mapping[str, object], program_id: Pubkey) -> Pubkey | None:
        """Raises InvalidId where an id is too long for its length to be one byte."""
        if "execution_id" not in known or "task_id" not in known:
            return None
        first, second = str(known["execution_id"]).encode(), str(known["task_id"]).encode()
        if len(first) > 255:
            raise InvalidId(f"executionId {str(known['execution_id'])[:80]!a} is longer than 255 bytes")
        hashed = hashlib.sha256(bytes([len(first)]) + first + second).digest()
        return Pubkey.find_program_address([b"execution", hashed], program_id)[0]


@dataclass(frozen=True, slots=True)
class SeedsRule:
    """`types` are those of the arguments that seeds may name."""

    seeds: tuple[Seed, ...]
    types: Mapping[str, object]

    def address(self, known: Mapping[str, object], program_id: Pubkey) -> Pubkey | None:
        """None where a seed is not among what is known."""
        raws = [self._raw(seed, known) for seed in self.seeds]
        found = [raw for raw in raws if raw is not None and len(raw) <= MAX_SEED_BYTES]
        if len(found) < len(raws):
            return None
        return Pubkey.find_program_address(found, program_id)[0]

    def _raw(self, seed: Seed, known: Mapping[str, object]) -> bytes | None:
        if seed.raw is not None:
            return seed.raw
        name = snake(seed.path)
        return _seed_bytes(known.get(name), self.types.get(name))


@dataclass(frozen=True, slots=True)
class NamedRule:
    """The IDL says nothing: only the instruction that is called names the account."""

    def address(self, _known: Mapping[str, object], _program_id: Pubkey) -> Pubkey | None:
        return None


AddressRule = HashRule | SeedsRule | NamedRule


def address_rule(idl: Idl) -> AddressRule:
    """Raises IdlInvalid where the IDL names a rule that the node does not know."""
    named = idl.constants.get(RULE)
    if named is not None:
        if named != "sha256":
            raise IdlInvalid(f"the IDL has {RULE} = {named[:80]!a}; the node knows only {RULE} = sha256")
        return HashRule()
    for name in _SEEDS_STAND_IN:
        spec = idl.instructions.get(name)
        seeds = None if spec is None else _seeds_of(spec)
        if spec is not None and seeds is not None and len(seeds) <= MAX_SEEDS:
            return SeedsRule(seeds, {arg.name: arg.type for arg in spec.args})
    return NamedRule()


def _seeds_of(spec: InstructionSpec) -> tuple[Seed, ...] | None:
    return next((meta.seeds for meta in spec.accounts if meta.name == EXECUTION_ACCOUNT), None)


def _seed_bytes(value: object, kind: object) -> bytes | None:
    """As Anchor takes them: a text's UTF-8, a number's bytes little endian, a key's 32 bytes."""
    match value, kind:
        case Pubkey(), _:
            return bytes(value)
        case str(), "string":
            return value.encode()
        case int(), str() if kind in _INTEGER_BYTES:
            try:
                return value.to_bytes(_INTEGER_BYTES[kind], "little", signed=kind.startswith("i"))
            except OverflowError:
                return None
        case _:
            return None
