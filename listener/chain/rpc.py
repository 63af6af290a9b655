"""One Solana RPC endpoint: JSON-RPC 2.0 over HTTP. Nothing but ChainError leaves this file."""

import asyncio
import base64
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain import answers, base58
from listener.chain import json_values as read
from listener.chain.answers import (
    Account,
    AccountRead,
    Commitment,
    EpochInfo,
    InnerInstruction,
    LatestBlockhash,
    ProgramAccounts,
    SignatureRow,
    Simulation,
    Status,
    Statuses,
    TransactionError,
    TransactionRead,
)
from listener.chain.json_values import integer, invalid, member, sequence, stated
from shared.errors import RpcInvalid, RpcRateLimited, RpcRefused, RpcUnavailable
from shared.ids import Lamports, Slot, UnixSeconds

__all__ = [
    "Account",
    "AccountRead",
    "Commitment",
    "EpochInfo",
    "InnerInstruction",
    "LatestBlockhash",
    "Memcmp",
    "ProgramAccounts",
    "Rpc",
    "SignatureRow",
    "Simulation",
    "Status",
    "Statuses",
    "TransactionError",
    "TransactionRead",
]

CLOCK_SYSVAR: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
MAX_SIGNATURES: Final = 1000
"""Rows that getSignaturesForAddress gives at most."""
MAX_STATUSES: Final = 256
MAX_ACCOUNTS: Final = 100
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Uncompressed; some 80,000 heads of accounts."""
CALL_TIMEOUT_S: Final = 60.0
"""For a whole answer: a peer that sends a byte now and then never meets the client's own time-outs."""
MIN_CONTEXT_SLOT_NOT_REACHED: Final = -32016
"""Code of RpcRefused where the endpoint lags behind the slot asked for."""
_NODE_UNHEALTHY: Final = -32005
_RATE_LIMIT_CODES: Final = frozenset({429, -32429})
"""Some providers answer 200 with a JSON-RPC error instead of HTTP 429."""


async def _at_once() -> None:
    """No budget."""


@dataclass(frozen=True, slots=True)
class Memcmp:
    """A filter of getProgramAccounts: the account's bytes at `offset` are these."""

    offset: int
    raw: bytes


class Rpc:
    """Each call is one request; retries and the choice of an endpoint are the caller's.

    `allowed` is awaited before each request, so that a budget is kept; `timeout_s` is for a whole answer.

    Raises RpcUnavailable (no answer), RpcRateLimited (429), RpcRefused (a JSON-RPC error, with its code) and
    RpcInvalid (an answer that is not what the method promises).
    """

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        allowed: Callable[[], Awaitable[None]] = _at_once,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self.url = url
        self._http = http
        self._allowed = allowed
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)

    async def get_account(
        self, address: Pubkey, *, commitment: Commitment = "confirmed", min_context_slot: Slot | None = None
    ) -> AccountRead:
        config = _config(commitment, encoding="base64", minContextSlot=min_context_slot)
        result = await self._call("getAccountInfo", str(address), config)
        value = stated(result, "value", "getAccountInfo")
        read_at = read.context_slot(result, "getAccountInfo")
        if min_context_slot is not None and read_at < min_context_slot:
            raise RpcInvalid(f"getAccountInfo was answered at slot {read_at}, before {min_context_slot}")
        return AccountRead(read_at, None if value is None else answers.account(value))

    async def get_multiple_accounts(
        self,
        addresses: Sequence[Pubkey],
        *,
        commitment: Commitment = "confirmed",
        min_context_slot: Slot | None = None,
    ) -> list[AccountRead]:
        """At most MAX_ACCOUNTS at once, all at the same slot, in the order asked."""
        config = _config(commitment, encoding="base64", minContextSlot=min_context_slot)
        result = await self._call("getMultipleAccounts", [str(address) for address in addresses], config)
        rows = sequence(member(result, "value", "getMultipleAccounts"), "getMultipleAccounts")
        read_at = read.context_slot(result, "getMultipleAccounts")
        if len(rows) != len(addresses):
            raise RpcInvalid(f"getMultipleAccounts gave {len(rows)} accounts, {len(addresses)} were asked for")
        if min_context_slot is not None and read_at < min_context_slot:
            raise RpcInvalid(f"getMultipleAccounts was answered at slot {read_at}, before {min_context_slot}")
        return [AccountRead(read_at, None if row is None else answers.account(row)) for row in rows]

    async def get_program_accounts(
        self,
        program_id: Pubkey,
        *,
        filters: Sequence[Memcmp] = (),
        data_slice: tuple[int, int] | None = None,
        commitment: Commitment = "confirmed",
    ) -> ProgramAccounts:
        """The accounts that match all `filters`; `data_slice` is (offset, length) of the wanted bytes."""
        memcmps = [{"memcmp": {"offset": one.offset, "bytes": base58.encode(one.raw)}} for one in filters]
        wanted = {"offset": data_slice[0], "length": data_slice[1]} if data_slice else None
        config = _config(commitment, encoding="base64", filters=memcmps, dataSlice=wanted, withContext=True)
        result = await self._call("getProgramAccounts", str(program_id), config)
        rows = sequence(member(result, "value", "getProgramAccounts"), "getProgramAccounts")
        return ProgramAccounts(
            read.context_slot(result, "getProgramAccounts"),
            tuple(
                (
                    read.pubkey(member(row, "pubkey", "a row of getProgramAccounts"), "an account's address"),
                    answers.account(member(row, "account", "a row of getProgramAccounts")),
                )
                for row in rows
            ),
        )

    async def get_signatures_for_address(
        self,
        address: Pubkey,
        *,
        before: Signature | None = None,
        limit: int = MAX_SIGNATURES,
        commitment: Commitment = "confirmed",
        min_context_slot: Slot | None = None,
    ) -> list[SignatureRow]:
        """Newest first. Servers answer nothing to a `before` that they do not know."""
        config = _config(
            commitment,
            before=None if before is None else str(before),
            limit=limit,
            minContextSlot=min_context_slot,
        )
        rows = sequence(await self._call("getSignaturesForAddress", str(address), config), "a list of signatures")
        if len(rows) > limit:
            raise RpcInvalid(f"getSignaturesForAddress gave {len(rows)} rows, {limit} were asked for")
        return [answers.signature_row(row) for row in rows]

    async def get_transaction(
        self, signature: Signature, commitment: Commitment = "confirmed"
    ) -> TransactionRead | None:
        config = _config(commitment, encoding="base64", maxSupportedTransactionVersion=1)
        result = await self._call("getTransaction", str(signature), config)
        return None if result is None else answers.transaction(result)

    async def get_latest_blockhash(self, commitment: Commitment = "confirmed") -> LatestBlockhash:
        value = member(await self._call("getLatestBlockhash", _config(commitment)), "value", "getLatestBlockhash")
        height = integer(member(value, "lastValidBlockHeight", "getLatestBlockhash"), "lastValidBlockHeight")
        return LatestBlockhash(
            read.block_hash(member(value, "blockhash", "getLatestBlockhash"), "a blockhash"), height
        )

    async def get_epoch_info(self, commitment: Commitment = "confirmed") -> EpochInfo:
        """Slot and block height of one moment, of one view of the chain."""
        result = await self._call("getEpochInfo", _config(commitment))
        absolute_slot = read.slot(member(result, "absoluteSlot", "getEpochInfo"), "absoluteSlot")
        return EpochInfo(absolute_slot, integer(member(result, "blockHeight", "getEpochInfo"), "blockHeight"))

    async def get_signature_statuses(
        self, signatures: Sequence[Signature], search_history: bool = False
    ) -> Statuses:
        """At most MAX_STATUSES at once."""
        names = [str(signature) for signature in signatures]
        result = await self._call("getSignatureStatuses", names, {"searchTransactionHistory": search_history})
        rows = sequence(member(result, "value", "getSignatureStatuses"), "getSignatureStatuses")
        if len(rows) != len(names):
            raise RpcInvalid(f"getSignatureStatuses gave {len(rows)} statuses, {len(names)} were asked for")
        return Statuses(
            read.context_slot(result, "getSignatureStatuses"), tuple(answers.status(row) for row in rows)
        )

    async def send_transaction(self, raw: bytes, *, skip_preflight: bool, max_retries: int = 0) -> Signature:
        """Refused in the preflight: RpcRefused, whose `data` holds `err` and `logs`."""
        config = {
            "encoding": "base64",
            "skipPreflight": skip_preflight,
            "preflightCommitment": "confirmed",
            "maxRetries": max_retries,
        }
        result = await self._call("sendTransaction", base64.b64encode(raw).decode("ascii"), config)
        return read.signature(result, "sendTransaction")

    async def simulate_transaction(self, raw: bytes, commitment: Commitment = "confirmed") -> Simulation:
        config = _config(commitment, encoding="base64")
        result = await self._call("simulateTransaction", base64.b64encode(raw).decode("ascii"), config)
        value = member(result, "value", "simulateTransaction")
        units = member(value, "unitsConsumed", "simulateTransaction")
        return Simulation(
            read.context_slot(result, "simulateTransaction"),
            answers.transaction_error(stated(value, "err", "simulateTransaction")),
            read.log_lines(member(value, "logs", "simulateTransaction"), "a simulation's logs"),
            None if units is None else integer(units, "unitsConsumed"),
        )

    async def get_recent_prioritization_fees(self) -> list[int]:
        """Of each recent slot the least price that landed, in micro-lamports per compute unit.

        No accounts are named: those that a requester chose could make any price.
        """
        rows = sequence(await self._call("getRecentPrioritizationFees"), "getRecentPrioritizationFees")
        return [integer(member(row, "prioritizationFee", "a slot's fee"), "prioritizationFee") for row in rows]

    async def get_balance(self, address: Pubkey, commitment: Commitment = "confirmed") -> Lamports:
        result = await self._call("getBalance", str(address), _config(commitment))
        return Lamports(integer(member(result, "value", "getBalance"), "a balance"))

    async def get_genesis_hash(self) -> Hash:
        return read.block_hash(await self._call("getGenesisHash"), "getGenesisHash")

    async def get_slot(self, commitment: Commitment = "confirmed") -> Slot:
        return read.slot(await self._call("getSlot", _config(commitment)), "getSlot")

    async def get_clock(self, commitment: Commitment = "confirmed") -> UnixSeconds:
        """The chain's time: unix_timestamp of the Clock sysvar, which is what the program compares with."""
        return answers.clock_time((await self.get_account(CLOCK_SYSVAR, commitment=commitment)).account)

    async def get_rent(self, nbytes: int) -> Lamports:
        """Lamports that an account of `nbytes` bytes of data must hold."""
        return Lamports(integer(await self._call("getMinimumBalanceForRentExemption", nbytes), "a rent"))

    async def request_airdrop(self, address: Pubkey, lamports: int) -> Signature:
        """Test clusters only."""
        return read.signature(await self._call("requestAirdrop", str(address), lamports), "requestAirdrop")

    async def _call(self, method: str, *params: object) -> object:
        await self._allowed()
        number = next(self._ids)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("POST", self.url, json=body) as response,
            ):
                content = await _content(method, response)
        except TimeoutError as error:
            raise RpcUnavailable(f"{method}: no whole answer within {self._timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RpcUnavailable(f"{method}: no answer: {type(error).__name__} {error}") from error
        return _result(method, number, response, content)


def _config(commitment: Commitment, **options: object) -> dict[str, object]:
    """The method's options with the commitment; those that are None are left out."""
    return {"commitment": commitment, **{name: value for name, value in options.items() if value is not None}}


async def _content(method: str, response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > MAX_ANSWER_BYTES:
            raise RpcInvalid(f"{method}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _result(method: str, number: int, response: httpx.Response, content: bytes) -> object:
    status = response.status_code
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RpcRateLimited(f"{method}: HTTP 429", _retry_after_s(response))
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise RpcUnavailable(f"{method}: HTTP {status}")
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        if status != httpx.codes.OK:
            raise RpcRefused(f"{method}: HTTP {status}", status) from error
        raise RpcInvalid(f"{method}: the answer is not JSON") from error
    if isinstance(answer, dict) and answer.get("error") is not None:
        raise _refusal(method, answer["error"], response)
    if status != httpx.codes.OK:
        raise RpcRefused(f"{method}: HTTP {status}", status)
    if not isinstance(answer, dict) or not _is_number(answer.get("id"), number) or "result" not in answer:
        raise invalid(method, f"an answer to request {number}", answer)
    return answer["result"]


def _is_number(value: object, number: int) -> bool:
    return value == number and not isinstance(value, bool)


def _refusal(method: str, error: object, response: httpx.Response) -> Exception:
    code, message = member(error, "code", f"{method}: error"), member(error, "message", f"{method}: error")
    if not isinstance(code, int) or not -(2**31) <= code < 2**31:
        return invalid(f"{method}: error.code", "an integer of 32 bits", code)
    told = f"{method}: {message!a:.300} (code {code})"
    if code in _RATE_LIMIT_CODES:
        return RpcRateLimited(told, _retry_after_s(response))
    if code == _NODE_UNHEALTHY:
        return RpcUnavailable(told)
    return RpcRefused(told, code, member(error, "data", method))


def _retry_after_s(response: httpx.Response) -> float | None:
    """Retry-After in seconds; as a date it is left to our own backoff."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
