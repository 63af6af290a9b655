"""An endpoint that does not answer as it should, on a real connection: nothing but ChainError leaves."""

import gzip
from collections.abc import AsyncIterator

import pytest

from listener.chain import rpc as rpc_module
from listener.chain.rpc import Rpc
from shared.errors import ChainError, RpcInvalid, RpcRateLimited, RpcRefused, RpcUnavailable
from tests.unit.rpc_server import Reply, RpcServer, running_rpc


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    async with running_rpc() as served:
        yield served


@pytest.mark.parametrize("header, wanted", [("7", 7.0), ("1.5", None), ("-1", None), ("Wed, 21 Oct 2026", None),
                                            ("9" * 400, None), ("\u00b2", None), (None, None)])  # fmt: skip
async def test_too_many_requests_carry_when_to_come_again(
    server: RpcServer, header: str | None, wanted: float | None
) -> None:
    headers = {} if header is None else {"retry-after": header}
    limited = {"jsonrpc": "2.0", "id": 1, "error": {"code": 429, "message": "slow down"}}
    server.replies = [Reply(b"slow down", 429, headers), Reply(limited, 200, headers)]
    for _ in range(2):
        with pytest.raises(RpcRateLimited) as caught:
            await server.rpc.get_slot()
        assert caught.value.retry_after_s == wanted


def refusal(code: object, **more: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no", **more}}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(b"", 500), RpcUnavailable),
        (Reply({"jsonrpc": "2.0", "id": 1, "result": 5}, 503), RpcUnavailable),
        (Reply(refusal(-32005)), RpcUnavailable),
        (Reply(raw=b""), RpcUnavailable),
        (Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), RpcUnavailable),
        (Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), RpcUnavailable),
        (Reply(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), RpcUnavailable),
        (Reply(b"not gzip", headers={"content-encoding": "gzip"}), RpcUnavailable),
        (Reply(b"", 302, {"location": "http://[x"}), RpcRefused),
        (Reply(b"x" * 20, headers={"x-long": "x" * 300_000}), RpcUnavailable),
        (Reply(refusal(-32429)), RpcRateLimited),
        (Reply(refusal(-32016)), RpcRefused),
        (Reply(refusal(-32601), 405), RpcRefused),
        (Reply(b"<html>", 403), RpcRefused),
        (Reply({"jsonrpc": "2.0", "id": 1, "result": 5}, 404), RpcRefused),
        (Reply(b"", 302, {"location": "http://127.0.0.1:1/"}), RpcRefused),
        (Reply(refusal("x")), RpcInvalid),
        (Reply(refusal(10**4000)), RpcInvalid),
        (Reply(refusal(None)), RpcInvalid),
        (Reply({"jsonrpc": "2.0", "id": 1, "error": "no"}), RpcInvalid),
        (Reply({"jsonrpc": "2.0", "id": 1}), RpcInvalid),
        (Reply({"jsonrpc": "2.0", "id": 2, "result": 5}), RpcInvalid),
        (Reply({"jsonrpc": "2.0", "id": "1", "result": 5}), RpcInvalid),
        (Reply({"jsonrpc": "2.0", "id": True, "result": 5}), RpcInvalid),
        (Reply({"jsonrpc": "2.0", "result": 5}), RpcInvalid),
        (Reply([{"jsonrpc": "2.0", "id": 1, "result": 5}]), RpcInvalid),
        (Reply(b""), RpcInvalid),
        (Reply(b"ok"), RpcInvalid),
        (Reply(b"\xff\xfe\xff"), RpcInvalid),
        (Reply(b"[" * 1_000_000), RpcInvalid),
        (Reply(b'{"id": 1, "result": ' + b"9" * 100_000 + b"}"), RpcInvalid),
        (Reply(b'{"id": 1, "result": 1e999}'), RpcInvalid),
        (Reply(b'{"id": 1, "result": NaN}'), RpcInvalid),
    ],
    ids=str,
)  # fmt: skip
async def test_each_failure_has_its_error(server: RpcServer, reply: Reply, kind: type[ChainError]) -> None:
    server.replies = [reply]
    with pytest.raises(ChainError) as caught:
        await server.rpc.get_slot()
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 1000


async def test_a_refusal_has_its_code_and_what_the_provider_adds(server: RpcServer) -> None:
    server.replies = [Reply(refusal(-32002, data={"err": "BlockhashNotFound", "logs": []}))]
    with pytest.raises(RpcRefused) as caught:
        await server.rpc.send_transaction(b"raw", skip_preflight=False)
    assert (caught.value.code, caught.value.data) == (-32002, {"err": "BlockhashNotFound", "logs": []})


async def test_nobody_there_is_unavailable(server: RpcServer) -> None:
    for url in ("http://127.0.0.1:1/", "http://[", "http://a\0/", "nothing", "ftp://127.0.0.1/"):
        with pytest.raises(RpcUnavailable):
            await Rpc(url, server.rpc._http).get_slot()


async def test_an_answer_that_never_ends_is_given_up(server: RpcServer) -> None:
    server.replies, server.stalls_s = [5], 0.05
    impatient = Rpc(server.rpc.url, server.rpc._http, timeout_s=0.3)
    with pytest.raises(RpcUnavailable, match=r"no whole answer within 0\.3 s"):
        await impatient.get_slot()


async def test_an_answer_is_read_only_up_to_its_limit(server: RpcServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "MAX_ANSWER_BYTES", 1_000_000)
    bomb = gzip.compress(b" " * 50_000_000)
    server.replies = [Reply(b" " * 1_000_001), Reply(bomb, headers={"content-encoding": "gzip"})]
    for _ in range(2):
        with pytest.raises(RpcInvalid, match="longer than 1000000 bytes"):
            await server.rpc.get_slot()
