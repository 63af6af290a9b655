"""A provider of the chain: JSON-RPC as the node asks it, over a view that may lag, forget or lie."""

import base64
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain import base58
from listener.chain.rpc import CLOCK_SYSVAR
from tests.simulation.chain import Block, Chain, Landed
from tests.simulation.faults import Faults
from tests.simulation.program_model import PROGRAM_ID, Cell, Execution
from tests.simulation.runtime import SignedTransaction

SYSVAR_OWNER: Final = Pubkey.from_string("Sysvar1111111111111111111111111111111111111")
STATUS_CACHE_SLOTS: Final = 160
"""Older statuses are only found where history is searched. A validator keeps 300: here an outage may outlast them."""
ONLY_STATUS_CACHE_SLOTS: Final = 300
"""Of one without history, which would know of nothing beyond them."""
OTHER_GENESIS: Final = str(Pubkey([77] * 32))
GENESIS: Final = str(Pubkey([76] * 32))


class RpcError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class View:
    """What one endpoint takes for the chain at one moment."""

    head: Block
    confirmed: Block
    finalized: Block

    def at(self, commitment: str) -> Block:
        return {"processed": self.head, "confirmed": self.confirmed, "finalized": self.finalized}[commitment]


class Provider:
    def __init__(self, name: str, chain: Chain, faults: Faults, on_send: Callable[[bytes], None]) -> None:
        self.name = name
        self.chain = chain
        self.faults = faults
        self._on_send = on_send
        self._stuck_at: Block | None = None
        self._rng = random.Random(f"{name} lies")
        self._methods: dict[str, Callable[[View, list[Any]], Any]] = {
            "getAccountInfo": self._account,
            "getBalance": self._balance,
            "getEpochInfo": self._epoch_info,
            "getGenesisHash": lambda _view, _params: self._genesis(),
            "getLatestBlockhash": self._latest_blockhash,
            "getMinimumBalanceForRentExemption": self._rent,
            "getMultipleAccounts": self._accounts,
            "getProgramAccounts": self._program_accounts,
            "getRecentPrioritizationFees": self._prioritization_fees,
            "getSignaturesForAddress": self._signatures,
            "getSignatureStatuses": self._statuses,
            "getSlot": lambda view, params: view.at(_option(params, 0, "commitment", "finalized")).slot,
            "getTransaction": self._transaction,
            "sendTransaction": self._send,
            "simulateTransaction": self._simulate,
        }

    def answer(self, method: str, params: list[Any]) -> Any:
        """The result. Raises RpcError."""
        if method not in self._methods:
            raise RpcError(-32601, "Method not found")
        return self._methods[method](self.view(), params)

    def view(self) -> View:
        head = self.chain.head
        if self.faults.has("stuck"):
            self._stuck_at = head = self._stuck_at or head
        else:
            self._stuck_at = None
        lag = self.faults.strikes(["lag"])
        for _ in range(lag.level if lag else 0):
            head = head.parent or head
        return View(head, self.chain.confirmed_of(head), self.chain.finalized_of(head))

    # ---- accounts ----

    def _cell(self, block: Block, address: Pubkey) -> Cell | None:
        if address == CLOCK_SYSVAR:
            clock = struct.pack("<QqQQq", block.slot, 0, 0, 0, block.now)
            return Cell(1_169_280, SYSVAR_OWNER, clock)
        if self.faults.lies("account missing"):
            return None
        cell = block.cells.get(address)
        if cell is not None and cell.owner == PROGRAM_ID and self.faults.lies("reward"):
            return _with_ten_rewards(cell)
        return cell

    def _account(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        cell = self._cell(block, Pubkey.from_string(params[0]))
        return _with_context(block, None if cell is None else _account_json(cell))

    def _accounts(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        cells = [self._cell(block, Pubkey.from_string(name)) for name in params[0]]
        return _with_context(block, [None if cell is None else _account_json(cell) for cell in cells])

    def _balance(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        cell = block.cells.get(Pubkey.from_string(params[0]))
        lamports = 0 if cell is None else cell.lamports
        return _with_context(block, lamports * 1_000 if self.faults.lies("balance") else lamports)

    def _program_accounts(self, view: View, params: list[Any]) -> Any:
        if self.faults.has("no listing"):
            raise RpcError(-32010, "excluded from account secondary indexes; this RPC method unavailable for key")
        block = self._block(view, params)
        owner, options = Pubkey.from_string(params[0]), params[1]
        wanted = [
            (one["memcmp"]["offset"], base58.decode(one["memcmp"]["bytes"])) for one in options.get("filters", ())
        ]
        cut = options.get("dataSlice")
        rows = []
        for address, cell in block.cells.items():
            matches = all(cell.data[at : at + len(raw)] == raw for at, raw in wanted)
            if cell.owner == owner and matches and not self.faults.lies("account missing"):
                data = cell.data[cut["offset"] : cut["offset"] + cut["length"]] if cut else cell.data
                rows.append({"pubkey": str(address), "account": _account_json(Cell(cell.lamports, owner, data))})
        return _with_context(block, rows) if options.get("withContext") else rows

    def _rent(self, view: View, params: list[Any]) -> Any:
        return view.head.bank().rent(params[0])

    # ---- transactions ----

    def _signatures(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        address, options = Pubkey.from_string(params[0]), params[1]
        rows, is_reached = [], options.get("before") is None
        for landed in self._history(block):
            name = str(landed.transaction.signature)
            if name == options.get("until"):
                break
            if is_reached and address in landed.transaction.keys:
                rows.append(_row_json(landed, view))
                if len(rows) == options.get("limit", 1000):
                    break
            is_reached = is_reached or name == options.get("before")
        return rows

    def _history(self, block: Block) -> Iterator[Landed]:
        """Newest first, as far as this provider remembers."""
        for one in block.ancestors():
            if self._is_pruned(one):
                return
            yield from reversed(one.landed)

    def _is_pruned(self, block: Block) -> bool:
        kept = self.faults.level("pruned")
        return bool(kept) and block.slot < self.chain.slot - kept

    def _transaction(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        landed = self._landed(Signature.from_string(params[0]), block, is_searched=True)
        if landed is None or self._is_pruned(landed.block):
            return None
        logs = None if self.faults.has("no logs") else list(landed.logs)
        return {
            "slot": landed.block.slot,
            "blockTime": landed.block.now,
            "transaction": [base64.b64encode(landed.transaction.raw).decode("ascii"), "base64"],
            "version": "legacy",
            "meta": {
                "err": landed.err,
                "logMessages": logs,
                "innerInstructions": [],
                "loadedAddresses": {"writable": [], "readonly": []},
                "fee": landed.transaction.fee,
            },
        }

    def _landed(self, signature: Signature, block: Block, *, is_searched: bool) -> Landed | None:
        """However much history is pruned, what is in the cache of statuses is known."""
        if self.faults.has("pruned"):
            oldest = self.chain.slot - ONLY_STATUS_CACHE_SLOTS
        else:
            oldest = 0 if is_searched else self.chain.slot - STATUS_CACHE_SLOTS
        for landed in self.chain.landings.get(signature, ()):
            if landed.block.slot >= oldest and landed.block.is_on_chain_of(block):
                return landed
        return None

    def _statuses(self, view: View, params: list[Any]) -> Any:
        is_searched = len(params) > 1 and bool(params[1].get("searchTransactionHistory"))
        rows: list[dict[str, Any] | None] = []
        for name in params[0]:
            landed = self._landed(Signature.from_string(name), view.head, is_searched=is_searched)
            if landed is None and self.faults.lies("status of another"):
                rows.append(_forged_status(view))
            elif landed is None or self.faults.lies("no status"):
                rows.append(None)
            else:
                rows.append(_status_json(landed, view))
        return _with_context(view.head, rows)

    def _send(self, _view: View, params: list[Any]) -> Any:
        raw = base64.b64decode(params[0])
        self._on_send(raw)
        if not self.faults.happens("send dropped"):
            self.chain.send(raw)
        return str(SignedTransaction(raw).signature)

    def _simulate(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        err = self.chain.simulate(base64.b64decode(params[0]), block)
        return _with_context(block, {"err": err, "logs": [], "unitsConsumed": 3_000})

    # ---- the chain as a whole ----

    def _latest_blockhash(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        last = block.height + self.chain.terms.blockhash_life
        return _with_context(block, {"blockhash": block.blockhash, "lastValidBlockHeight": last})

    def _epoch_info(self, view: View, params: list[Any]) -> Any:
        block = self._block(view, params)
        height = block.height + (1_000 if self.faults.lies("height ahead") else 0)
        return {"absoluteSlot": block.slot, "blockHeight": height, "epoch": 0, "slotIndex": 0, "slotsInEpoch": 1}

    def _genesis(self) -> str:
        return OTHER_GENESIS if self.faults.has("other cluster") else GENESIS

    def _prioritization_fees(self, view: View, _params: list[Any]) -> Any:
        return [{"slot": view.head.slot - back, "prioritizationFee": (back * 37) % 50} for back in range(20)]

    def _block(self, view: View, params: list[Any]) -> Block:
        """The one that the call is about. Raises RpcError where it is asked for more than this endpoint has."""
        options = next((one for one in params if isinstance(one, dict)), {})
        block = view.at(options.get("commitment", "finalized"))
        if block.slot < options.get("minContextSlot", 0):
            raise RpcError(-32016, "Minimum context slot has not been reached")
        return block


def _option(params: list[Any], at: int, name: str, default: str) -> str:
    return str(params[at].get(name, default)) if len(params) > at else default


def _with_context(block: Block, value: Any) -> Any:
    return {"context": {"slot": block.slot, "apiVersion": "3.0.0"}, "value": value}


def _account_json(cell: Cell) -> dict[str, Any]:
    return {
        "lamports": cell.lamports,
        "owner": str(cell.owner),
        "data": [base64.b64encode(cell.data).decode("ascii"), "base64"],
        "executable": False,
        "rentEpoch": 2**64 - 1,
        "space": len(cell.data),
    }


def _confirmation(landed: Landed, view: View) -> str:
    slot = landed.block.slot
    if slot <= view.finalized.slot:
        return "finalized"
    return "confirmed" if slot <= view.confirmed.slot else "processed"


def _row_json(landed: Landed, view: View) -> dict[str, Any]:
    return {
        "signature": str(landed.transaction.signature),
        "slot": landed.block.slot,
        "err": landed.err,
        "memo": None,
        "blockTime": landed.block.now,
        "confirmationStatus": _confirmation(landed, view),
    }


def _status_json(landed: Landed, view: View) -> dict[str, Any]:
    return {
        "slot": landed.block.slot,
        "confirmations": None,
        "err": landed.err,
        "status": {"Ok": None} if landed.err is None else {"Err": landed.err},
        "confirmationStatus": _confirmation(landed, view),
    }


def _forged_status(view: View) -> dict[str, Any]:
    slot = view.finalized.slot
    return {
        "slot": slot,
        "confirmations": None,
        "err": None,
        "status": {"Ok": None},
        "confirmationStatus": "finalized",
    }


def _with_ten_rewards(cell: Cell) -> Cell:
    """An account that is whole, and promises what nobody locked."""
    execution = Execution.read(cell.data)
    richer = replace(execution, reward=10 * execution.reward)
    return Cell(cell.lamports + 9 * execution.reward, cell.owner, bytes(richer))
