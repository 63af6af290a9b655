"""A program known by its IDL, and bytes of its accounts and events, made without the node's own code."""

import json
import struct
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from solders.pubkey import Pubkey

from listener.chain.answers import Account
from listener.chain.idl import Program, load_idl
from program import IDL_PATH
from tests.program.instructions import EXECUTION_ID, TASK_ID, discriminator, execution_address, string, strings

IDL: dict[str, Any] = json.loads(IDL_PATH.read_text())
PROGRAM_ID = Pubkey([9] * 32)
NODE, REQUESTER = Pubkey([1] * 32), Pubkey([2] * 32)
ADDRESS = execution_address(PROGRAM_ID, EXECUTION_ID, TASK_ID)[0]
DEADLINE = 1_700_000_600


def program(document: dict[str, Any] = IDL) -> Program:
    return load_idl(document, PROGRAM_ID)


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def older(document: dict[str, Any] = IDL) -> dict[str, Any]:
    """The same IDL in the layout before spec 0.1.0: camelCase, no discriminators, fields with their struct."""
    types = {entry["name"]: entry for entry in document["types"]}

    def kind(of: Any) -> Any:
        match of:
            case "pubkey":
                return "publicKey"
            case {"defined": {"name": name}}:
                return {"defined": name}
            case {"vec": inner}:
                return {"vec": kind(inner)}
            case {"array": [inner, length]}:
                return {"array": [kind(inner), length]}
        return of

    def fields(listed: list[dict[str, Any]], **more: object) -> list[dict[str, Any]]:
        return [{"name": camel(one["name"]), "type": kind(one["type"]), **more} for one in listed]

    def metas(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"name": camel(m["name"]), "isMut": m.get("writable", False), "isSigner": m.get("signer", False)}
            for m in listed
        ]

    structs = {entry["name"] for place in ("accounts", "events") for entry in document[place]}
    return {
        "version": "0.1.0",
        "name": "splitup",
        "instructions": [
            {"name": camel(one["name"]), "accounts": metas(one["accounts"]), "args": fields(one["args"])}
            for one in document["instructions"]
        ],
        "accounts": [
            {
                "name": one["name"],
                "type": {"kind": "struct", "fields": fields(types[one["name"]]["type"]["fields"])},
            }
            for one in document["accounts"]
        ],
        "events": [
            {"name": one["name"], "fields": fields(types[one["name"]]["type"]["fields"], index=False)}
            for one in document["events"]
        ],
        "types": [entry for name, entry in types.items() if name not in structs],
        "errors": document["errors"],
        "constants": document["constants"],
    }


def changed(*path: str | int, to: object = None, document: dict[str, Any] = IDL) -> dict[str, Any]:
    """A copy of the IDL in which what `path` leads to (entries of lists by their name) is `to`, or gone."""
    copy = deepcopy(document)
    parent: Any = copy
    for step in path[:-1]:
        parent = parent[_place(parent, step)]
    if to is None:
        del parent[_place(parent, path[-1])]
    else:
        parent[_place(parent, path[-1])] = to
    return copy


def _place(parent: Any, step: str | int) -> str | int:
    if isinstance(parent, list) and isinstance(step, str):
        return next(index for index, entry in enumerate(parent) if entry["name"] == step)
    return step


@dataclass(frozen=True)
class ExecutionBytes:
    """An execution account as the table of the protocol's page lays it out."""

    layout: int = 1
    state: int = 0
    expected_output_count: int = 1
    assigned_node: Pubkey = NODE
    requester: Pubkey = REQUESTER
    reward: int = 1_000_000
    deadline: int = DEADLINE
    refund_at: int = 0
    attempt: int = 1_000
    compute_units: int = 7
    execution_id: str | bytes = EXECUTION_ID
    task_id: str | bytes = TASK_ID
    model_id: str | bytes = "f" * 64
    input_uris: tuple[str | bytes, ...] = ("s3://bucket/tensors/public/x.safetensors#0",)

    def head(self) -> bytes:
        return struct.pack(
            "<8sBBBB4s32s32sQqqQQ",
            discriminator("account", "Execution"),
            self.layout,
            self.state,
            254,
            self.expected_output_count,
            bytes(4),
            bytes(self.assigned_node),
            bytes(self.requester),
            self.reward,
            self.deadline,
            self.refund_at,
            self.attempt,
            self.compute_units,
        )

    def __bytes__(self) -> bytes:
        ids = string(self.execution_id) + string(self.task_id) + string(self.model_id)
        return self.head() + ids + strings(self.input_uris)

    def account(self, lamports: int = 10**9, owner: Pubkey = PROGRAM_ID) -> Account:
        return Account(lamports, owner, bytes(self))

    def but(self, **values: Any) -> "ExecutionBytes":
        return replace(self, **values)
