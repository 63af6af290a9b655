"""An execution by the transactions on its account, where the IDL does not describe the account itself.

The newest instruction on the account says what state it is in, the newest assignment what is in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from solders.pubkey import Pubkey

from listener.chain.accounts import Execution, ExecutionState, check_limits, counted
from listener.chain.calls import Call, Proof
from listener.chain.event_types import TASK_ASSIGNED_FIELDS
from listener.chain.idl import ExecutionCancelled, TaskAssigned
from shared.errors import AccountInvalid, InvalidId
from shared.ids import Attempt, Lamports, Slot, UnixSeconds, parse_execution_id, parse_model_id, parse_task_id

ASSIGN: Final = "assign_task"
CANCEL: Final = "cancel_execution"
RECLAIM: Final = "reclaim"
_STATES: Final[Mapping[str, ExecutionState]] = {
    ASSIGN: ExecutionState.ASSIGNED,
    CANCEL: ExecutionState.CANCELLED,
    "task_completed": ExecutionState.COMPLETED,
    "task_failed": ExecutionState.FAILED,
}
REQUESTERS: Final = ("requester", "authority")
"""What an instruction may call the one who assigns."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One instruction on the account, in the transaction that stands for it."""

    slot: Slot
    call: Call
    proof: Proof

    @property
    def is_of_whole_execution(self) -> bool:
        """A cancellation that names no task: all tasks of the execution are meant."""
        return self.call.name == CANCEL and "task_id" not in self.call.args


def deeds_on(address: Pubkey, slot: Slot, proof: Proof) -> list[Deed]:
    """What the transaction did to the account, the last first."""
    deeds = [Deed(slot, call, proof) for call in reversed(proof.calls)]
    return [deed for deed in deeds if deed.call.execution == address or deed.is_of_whole_execution]


def execution_by(deeds: Sequence[Deed], address: Pubkey, node: Pubkey) -> Execution | None:
    """The execution after these deeds, of which the last (the oldest) assigned it. None: it was taken back.

    Raises AccountInvalid where it is no assignment to `node` that may be run.
    """
    assigned = deeds[-1]
    content = _content(assigned)
    newest = next(
        deed
        for deed in deeds
        if deed.call.execution == address or deed.call.args.get("execution_id") == content["execution_id"]
    )
    if newest.call.name == RECLAIM:
        return None
    execution = _execution(assigned, content, address, newest)
    if execution.assigned_node != node:
        raise AccountInvalid(f"it is assigned to another node, {execution.assigned_node}")
    check_limits(execution)
    return execution


def _execution(assigned: Deed, content: Mapping[str, Any], address: Pubkey, newest: Deed) -> Execution:
    reward = Lamports(counted(content.get("reward", 0), "reward"))
    try:
        return Execution(
            address=address,
            lamports=reward,
            state=_STATES[newest.call.name],
            attempt=Attempt(assigned.slot),
            assigned_node=content["assigned_node"],
            requester=requester_of(assigned),
            reward=reward,
            deadline=UnixSeconds(counted(content["deadline"], "deadline")),
            refund_at=_refund_at(newest, content),
            compute_units=counted(content["compute_units"], "compute_units"),
            expected_output_count=content["expected_output_count"],
            execution_id=parse_execution_id(content["execution_id"]),
            task_id=parse_task_id(content["task_id"]),
            model_id=parse_model_id(content["model_id"]),
            input_uris=content["input_uris"],
        )
    except InvalidId as error:
        raise AccountInvalid(str(error)) from error


def _content(assigned: Deed) -> dict[str, Any]:
    """The assignment's fields: by the instruction, which is signed, and by its event what that leaves out."""
    told: set[TaskAssigned] = set()
    for event in assigned.proof.events:
        if isinstance(event, TaskAssigned) and assigned.call.agrees_with(_fields(event)):
            told.add(event)
    content: dict[str, Any] = _fields(told.pop()) if len(told) == 1 else {}
    content |= {name: key for name, key in assigned.call.accounts.items() if name == "assigned_node"}
    content |= assigned.call.args
    missing = [name for name in TASK_ASSIGNED_FIELDS if name not in content]
    if missing:
        raise AccountInvalid(f"the transaction that assigned it does not say its {', '.join(missing)}")
    return content


def _fields(event: TaskAssigned) -> dict[str, Any]:
    return {name: getattr(event, name) for name in TASK_ASSIGNED_FIELDS}


def requester_of(assigned: Deed) -> Pubkey:
    """The instruction's signer of that name, else who paid the fee.

    A name in an IDL proves nothing: whose folders may be read hangs on it, so the key must have signed.
    """
    call, signers = assigned.call, assigned.proof.signers
    for name in REQUESTERS:
        if name in call.signing and name in call.accounts:
            if call.accounts[name] not in signers:
                raise AccountInvalid(f"its {name} has not signed the transaction that assigned it")
            return call.accounts[name]
    return signers[0]


def _refund_at(newest: Deed, content: Mapping[str, Any]) -> UnixSeconds:
    """0 unless cancelled with a notice, which only the event tells of."""
    if newest.call.name != CANCEL:
        return UnixSeconds(0)
    for event in newest.proof.events:
        if (
            isinstance(event, ExecutionCancelled)
            and event.execution_id == content["execution_id"]
            and event.task_id in (None, content["task_id"])
        ):
            return UnixSeconds(counted(event.refund_at or 0, "refund_at"))
    return UnixSeconds(0)
