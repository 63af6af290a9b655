"""What an IDL must say, and whether its account is described well enough to be gone by."""

from typing import Final

from listener.chain.event_types import (
    EVENT_FIELDS,
    EXECUTION_FIELDS,
    OPTIONAL_EVENT_FIELDS,
    OPTIONAL_EXECUTION_FIELDS,
    REWARD_FIELD,
    STATE,
    TASK_ASSIGNED_FIELDS,
    check_fields,
)
from listener.chain.idl_address import EXECUTION_ACCOUNT
from listener.chain.idl_layout import Idl, Struct, fold
from shared.errors import IdlInvalid

EXECUTION: Final = "Execution"
REQUIRED_EVENTS: Final = ("TaskAssigned", "ExecutionCancelled")


def check(idl: Idl) -> None:
    """Raises IdlInvalid, which says what is missing."""
    for name in REQUIRED_EVENTS:
        if fold(name) not in idl.events:
            raise IdlInvalid(f"the IDL has no event {name}")
    for name, fields in EVENT_FIELDS.items():
        if struct := idl.events.get(fold(name)):
            check_fields(struct, fields, OPTIONAL_EVENT_FIELDS.get(name, {}))
    if "taskcompleted" not in idl.instructions:
        raise IdlInvalid("the IDL has no instruction task_completed")
    missing = missing_of_account(idl)
    if missing is not None:
        _check_transactions_do(idl, missing)
    else:
        check_fields(idl.accounts[fold(EXECUTION)], EXECUTION_FIELDS, OPTIONAL_EXECUTION_FIELDS)


def missing_of_account(idl: Idl) -> str | None:
    """What the IDL does not say of the account, so that the account alone cannot tell of an assignment."""
    execution = idl.accounts.get(fold(EXECUTION))
    if execution is None:
        return f"the IDL describes no account {EXECUTION}"
    names = {field.name for field in execution.fields}
    missing = [name for name in (STATE, *EXECUTION_FIELDS) if name not in names]
    return f"the IDL's {EXECUTION} has no field {', '.join(missing)}" if missing else None


def _check_transactions_do(idl: Idl, missing: str) -> None:
    """Raise IdlInvalid where transactions cannot stand in for the account."""
    assign = idl.instructions.get("assigntask")
    if assign is None or all(account.name != EXECUTION_ACCOUNT for account in assign.accounts):
        raise IdlInvalid(f"{missing}, and no instruction assign_task that names an account {EXECUTION_ACCOUNT}")
    arguments = Struct(assign.name, assign.discriminator, assign.args)
    check_fields(arguments, {}, TASK_ASSIGNED_FIELDS | REWARD_FIELD)
