"""One endpoint's calls against a real HTTP server: what is asked, and what is taken for an answer."""

import base64
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.answers import Account, AccountRead, EpochInfo, TransactionError
from listener.chain.rpc import CLOCK_SYSVAR, LatestBlockhash, Memcmp, Rpc
from shared.errors import RpcInvalid
from tests.unit.rpc_server import RpcServer, running_rpc

KEY, OWNER = Pubkey([1] * 32), Pubkey([2] * 32)
SIGNATURE = Signature(bytes([3] * 64))
HASH = Hash(bytes([4] * 32))
CONTEXT = {"context": {"slot": 7}}
ACCOUNT = {
    "lamports": 5,
    "owner": str(OWNER),
    "data": ["AQI=", "base64"],
    "executable": False,
    "rentEpoch": 2**64 - 1,
}

CALLS: dict[str, tuple[Any, ...]] = {
    "get_account": (KEY,),
    "get_multiple_accounts": ([KEY, KEY],),
    "get_program_accounts": (KEY,),
    "get_signatures_for_address": (KEY,),
    "get_transaction": (SIGNATURE,),
    "get_latest_blockhash": (),
    "get_epoch_info": (),
    "get_signature_statuses": ([SIGNATURE],),
    "simulate_transaction": (b"raw",),
    "get_balance": (KEY,),
    "get_genesis_hash": (),
    "get_slot": (),
    "get_clock": (),
    "get_rent": (100,),
    "get_recent_prioritization_fees": (),
    "request_airdrop": (KEY, 5),
}


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    async with running_rpc() as served:
        yield served


async def call(server: RpcServer, name: str) -> object:
    if name == "send_transaction":
        return await server.rpc.send_transaction(b"raw", skip_preflight=True)
    return await getattr(server.rpc, name)(*CALLS[name])


def clock(seconds: int) -> dict[str, object]:
    raw = bytes(32) + seconds.to_bytes(8, "little", signed=True)
    return CONTEXT | {"value": ACCOUNT | {"data": [base64.b64encode(raw).decode(), "base64"]}}


def test_every_call_is_tried() -> None:
    methods = {
        name for name, one in inspect.getmembers(Rpc, inspect.iscoroutinefunction) if not name.startswith("_")
    }
    assert methods == CALLS.keys() | {"send_transaction"}


@pytest.mark.parametrize(
    ("name", "result", "wanted"),
    [
        ("get_account", CONTEXT | {"value": None}, AccountRead(7, None)),
        ("get_account", CONTEXT | {"value": ACCOUNT}, AccountRead(7, Account(5, OWNER, b"\1\2"))),
        ("get_multiple_accounts", CONTEXT | {"value": [None, ACCOUNT]},
         [AccountRead(7, None), AccountRead(7, Account(5, OWNER, b"\1\2"))]),
        ("get_latest_blockhash", CONTEXT | {"value": {"blockhash": str(HASH), "lastValidBlockHeight": 9}},
         LatestBlockhash(HASH, 9)),
        ("get_epoch_info", {"absoluteSlot": 5, "blockHeight": 3, "epoch": 0}, EpochInfo(5, 3)),
        ("send_transaction", str(SIGNATURE), SIGNATURE),
        ("request_airdrop", str(SIGNATURE), SIGNATURE),
        ("get_balance", CONTEXT | {"value": 12}, 12),
        ("get_genesis_hash", str(HASH), HASH),
        ("get_slot", 99, 99),
        ("get_clock", clock(1_700_000_000), 1_700_000_000),
        ("get_clock", clock(-5), -5),
        ("get_rent", 890_880, 890_880),
        ("get_recent_prioritization_fees", [{"slot": 7, "prioritizationFee": 5}], [5]),
        ("get_transaction", None, None),
    ],
)  # fmt: skip
async def test_each_answer_is_read(server: RpcServer, name: str, result: object, wanted: object) -> None:
    server.replies = [result]
    assert await call(server, name) == wanted


async def test_requests_carry_their_options(server: RpcServer) -> None:
    server.replies = [CONTEXT | {"value": ACCOUNT}, CONTEXT | {"value": []}, [], str(SIGNATURE), clock(0)]
    await server.rpc.get_account(KEY, commitment="finalized", min_context_slot=7)
    await server.rpc.get_program_accounts(KEY, filters=[Memcmp(9, b"\0\1")], data_slice=(0, 120))
    await server.rpc.get_signatures_for_address(KEY, before=SIGNATURE, limit=10)
    await server.rpc.send_transaction(b"raw", skip_preflight=False)
    await server.rpc.get_clock()
    config = {"commitment": "confirmed", "encoding": "base64"}
    assert [(one["method"], one["params"]) for one in server.asked] == [
        ("getAccountInfo", [str(KEY), {"commitment": "finalized", "encoding": "base64", "minContextSlot": 7}]),
        (
            "getProgramAccounts",
            [
                str(KEY),
                config
                | {
                    "filters": [{"memcmp": {"offset": 9, "bytes": "12"}}],
                    "dataSlice": {"offset": 0, "length": 120},
                    "withContext": True,
                },
            ],
        ),
        (
            "getSignaturesForAddress",
            [str(KEY), {"commitment": "confirmed", "before": str(SIGNATURE), "limit": 10}],
        ),
        (
            "sendTransaction",
            [
                "cmF3",
                {
                    "encoding": "base64",
                    "skipPreflight": False,
                    "preflightCommitment": "confirmed",
                    "maxRetries": 0,
                },
            ],
        ),
        ("getAccountInfo", [str(CLOCK_SYSVAR), config]),
    ]
    assert [one["id"] for one in server.asked] == [1, 2, 3, 4, 5]


async def test_an_account_of_an_older_slot_than_asked_for_is_invalid(server: RpcServer) -> None:
    server.replies = [CONTEXT | {"value": None}]
    with pytest.raises(RpcInvalid, match="at slot 7, before 8"):
        await server.rpc.get_account(KEY, min_context_slot=8)


HOSTILE: list[Any] = [
    None,
    True,
    -1,
    2**63,
    1.5,
    "",
    "\ud800",
    "x" * 100_000,
    "1" * 100_000,
    [],
    [None],
    [[]],
    [{}],
    {},
    {"value": None},
    CONTEXT,
    CONTEXT | {"value": {}},
    CONTEXT | {"value": [5]},
    CONTEXT | {"value": [{}]},
    CONTEXT | {"value": [{"slot": 1, "err": None, "confirmationStatus": "rooted"}]},
    CONTEXT | {"value": [{"pubkey": "\ud800", "account": ACCOUNT}]},
    CONTEXT | {"value": [{"pubkey": str(KEY), "account": None}]},
    CONTEXT | {"value": {"blockhash": "\ud800", "lastValidBlockHeight": 5}},
    CONTEXT | {"value": {"blockhash": str(HASH), "lastValidBlockHeight": 2**63}},
    CONTEXT | {"value": ACCOUNT | {"lamports": "5"}},
    CONTEXT | {"value": ACCOUNT | {"owner": "x"}},
    CONTEXT | {"value": ACCOUNT | {"data": "AQI="}},
    CONTEXT | {"value": ACCOUNT | {"data": ["AQI=", "base58"]}},
    CONTEXT | {"value": ACCOUNT | {"data": ["\u00e9%", "base64"]}},
    {"context": {"slot": -1}, "value": ACCOUNT},
    {"context": {"slot": True}, "value": None},
    [{"signature": str(SIGNATURE), "slot": 5}],
    [{"signature": "x", "slot": 5, "err": None}],
    [{"signature": str(SIGNATURE), "slot": 5, "err": 7}],
]


@pytest.mark.parametrize("name", [*CALLS, "send_transaction"])
async def test_no_result_of_another_kind_passes(server: RpcServer, name: str) -> None:
    empty = {"get_signatures_for_address": [[]], "get_recent_prioritization_fees": [[]], "get_transaction": [None]}
    allowed = empty.get(name, [])
    for result in HOSTILE:
        if result in allowed:
            continue
        server.replies = [result]
        with pytest.raises(RpcInvalid):
            await call(server, name)


async def test_rows_beyond_those_asked_for_are_invalid(server: RpcServer) -> None:
    row = {"signature": str(SIGNATURE), "slot": 5, "err": {"InstructionError": [0, {"Custom": 1}]}}
    server.replies = [[row], [row] * 2, CONTEXT | {"value": [None, None]}]
    (read,) = await server.rpc.get_signatures_for_address(KEY, limit=1)
    assert (read.slot, read.err) == (5, TransactionError("instruction 0 failed with custom error 1", 0, 1))
    with pytest.raises(RpcInvalid, match="2 rows, 1 were asked for"):
        await server.rpc.get_signatures_for_address(KEY, limit=1)
    with pytest.raises(RpcInvalid, match="2 statuses, 1 were asked for"):
        await server.rpc.get_signature_statuses([SIGNATURE])
