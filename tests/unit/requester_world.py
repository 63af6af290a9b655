"""A requester before an endpoint that lands what it is sent, and loses what a test wants lost."""

from pathlib import Path
from typing import Any

from solders.hash import Hash
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import Transaction

from compute.storage.files import FileStorage
from listener.chain.answers import SignatureRow, Status, TransactionError, TransactionRead
from requester.session import Session
from shared.errors import RpcInvalid, RpcRateLimited, RpcRefused, RpcUnavailable
from shared.ids import Attempt, ModelId, Slot, TaskKey, parse_execution_id, parse_task_id
from shared.uris import parse_prefix
from tests.program.instructions import CANCELLED, EXECUTION_ID, TASK_ID
from tests.unit.chain_bytes import ADDRESS, ExecutionBytes
from tests.unit.listener_world import KEY, NOW, PROGRAM, FixedClock, ScriptedRpc

NODE = Pubkey([1] * 32)
PAIR = TaskKey(parse_execution_id(EXECUTION_ID), parse_task_id(TASK_ID))
ATTEMPT = Attempt(1_000)
MODEL = ModelId("f" * 64)
ACCOUNT = ExecutionBytes(requester=KEY.pubkey(), reward=1_000_000, deadline=NOW + 600)
"""What assign_task leaves of the pair."""
LOST = RpcUnavailable("no answer")
PASSING = [LOST, RpcRateLimited("429", 2.0), RpcInvalid("not JSON"), RpcRefused("the endpoint lags", -32016)]


class Chain(ScriptedRpc):
    def __init__(self) -> None:
        super().__init__()
        self.arrives: list[bool] = []
        """For each next transaction that is sent; without a word it arrives."""
        self.refuses: dict[str, Exception] = {}
        """By instruction."""
        self.landed: list[str] = []
        """The program's instructions, in order."""
        self.fails: TransactionError | None = None

    async def send_transaction(self, raw: bytes, **told: object) -> Signature:
        transaction = Transaction.from_bytes(raw)
        decoded = PROGRAM.decode_instruction(bytes(transaction.message.instructions[0].data))
        assert decoded is not None
        name, args = decoded
        if name in self.refuses:
            raise self.refuses[name]
        if (self.arrives.pop(0) if self.arrives else True) and str(transaction.signatures[0]) not in self.statuses:
            self.statuses[str(transaction.signatures[0])] = Status(Slot(self.slot), self.fails, "confirmed")
            if self.fails is None:
                self._change(name, args)
        return await super().send_transaction(raw, **told)

    def _change(self, name: str, args: dict[str, Any]) -> None:
        self.landed.append(name)
        address = PROGRAM.execution_address(args["execution_id"], args["task_id"])
        if name == "assign_task":
            ids = {"execution_id": args["execution_id"], "task_id": args["task_id"]}
            self.accounts[address] = ACCOUNT.but(**ids).account()
        elif name == "cancel_execution":
            self.accounts[address] = ACCOUNT.but(state=CANCELLED, refund_at=int(self.time) + 30).account()
        elif name == "reclaim":
            del self.accounts[address]

    async def get_clock(self, _commitment: str = "confirmed") -> float:
        self.time += 4
        return int(await super().get_clock())

    async def get_signatures_for_address(
        self,
        _address: Pubkey,
        *,
        before: Signature | None = None,
        limit: int = 1000,
        **_: object,
    ) -> list[SignatureRow]:
        self._on("get_signatures_for_address")
        start = 0 if before is None else 1 + [row.signature for row in self.rows].index(before)
        return self.rows[start : start + limit]

    def tells(self, name: str, number: int = 1, slot: int = 1_500, **more: object) -> None:
        """List, below what is listed already, a transaction that called `name` (task_completed or task_failed)."""
        args = {"execution_id": EXECUTION_ID, "task_id": TASK_ID, "attempt": ATTEMPT, **more}
        called = PROGRAM.encode_instruction(name, args, {"assigned_node": KEY.pubkey()})
        raw = bytes(Transaction([KEY], Message([called], KEY.pubkey()), Hash.default()))
        self.lists(number, slot, TransactionRead(Slot(slot), raw, None, (), {}, (), None))

    def lists(self, number: int, slot: int = 1_500, read: TransactionRead | None = None) -> Signature:
        signature = Signature(number.to_bytes(64, "big"))
        self.rows.append(SignatureRow(signature, Slot(slot), None))
        self.transactions[signature] = read
        return signature

    def fills(self, count: int) -> None:
        """List so many transactions that named the account and failed."""
        failed = TransactionError("it failed")
        first = 1_000 + len(self.rows)
        self.rows += [
            SignatureRow(Signature(number.to_bytes(64, "big")), Slot(1_600), failed)
            for number in range(first, first + count)
        ]


def session(chain: Chain, folder: Path) -> Session:
    prefix = parse_prefix(f"file://{folder}")
    rpc: Any = chain
    return Session(rpc, PROGRAM, KEY, FileStorage([prefix]), prefix, (prefix,), FixedClock())


def stands(chain: Chain, **values: object) -> None:
    """The pair's account, from now on."""
    chain.accounts[ADDRESS] = ACCOUNT.but(**values).account()
