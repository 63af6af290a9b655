"""The committed IDL as that of another program, which says less, or says it otherwise."""

from typing import Any

from tests.unit.chain_bytes import IDL, changed

Document = dict[str, Any]


def without_account(document: Document = IDL) -> Document:
    """It does not say what an account holds."""
    told = changed("accounts", "Execution", document=document)
    for name in ("Execution", "ExecutionState"):
        told = changed("types", name, document=told)
    return told


def without_rule(document: Document = IDL) -> Document:
    """It does not say where an account lies: only instructions name it."""
    return changed("constants", "EXECUTION_ADDRESS", document=document)


def without_attempt(document: Document = IDL) -> Document:
    """What ends a task does not say which attempt is meant."""
    for name in ("task_completed", "task_failed"):
        document = changed("instructions", name, "args", "attempt", document=document)
    return document


def with_seeds(*seeds: Document, of: str = "assign_task", document: Document = IDL, **pda: object) -> Document:
    """An account lies where these seeds give."""
    place = ("instructions", of, "accounts", "execution", "pda")
    return changed(*place, to={"seeds": list(seeds), **pda}, document=without_rule(document))


def const(text: str) -> Document:
    return {"kind": "const", "value": list(text.encode())}


def arg(path: str) -> Document:
    return {"kind": "arg", "path": path}


def account(path: str) -> Document:
    return {"kind": "account", "path": path}
