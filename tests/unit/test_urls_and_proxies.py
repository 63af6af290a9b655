"""Where requests go: the URLs that settings take, and no proxy on the way to this machine."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError
from solders.keypair import Keypair

from cli.commands import deploy as deploying
from listener.chain.rpc import Rpc
from requester.session import open_session
from requester.settings import RequesterSettings
from shared.http import NO_PROXY_FOR_LOOPBACK
from shared.urls import HttpUrl, WebsocketUrl
from tests.unit.rpc_server import running_rpc

NOWHERE = "http://127.0.0.1:9"
"""The discard port: nobody answers there."""


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.lower(), NOWHERE)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def key_file(folder: Path, name: str) -> Path:
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(json.dumps(list(bytes(Keypair()))))
    return path


def requester_env(monkeypatch: pytest.MonkeyPatch, folder: Path, rpc_url: str) -> None:
    for name, value in {
        "REQUESTER_KEYPAIR": str(key_file(folder, "requester.json")),
        "RPC_URL": rpc_url,
        "PROGRAM_ID": str(Keypair().pubkey()),
        "PUBLISH_PREFIX": f"file://{folder}",
        "ALLOWED_PREFIXES": f"file://{folder}",
        "STORAGE_FOLDER": str(folder),
    }.items():
        monkeypatch.setenv(f"SPLITUP_{name}", value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://localhost:8899/path", "ws://[::1]:2"])
async def test_no_proxy_is_between_this_machine_and_itself(proxied: None, url: str) -> None:
    async with httpx.AsyncClient(mounts=NO_PROXY_FOR_LOOPBACK) as http:
        assert http._transport_for_url(httpx.URL(url)) is http._transport
        assert http._transport_for_url(httpx.URL("https://api.example.org")) is not http._transport


async def test_a_requester_s_command_asks_a_local_endpoint_without_the_proxy(
    proxied: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with running_rpc() as server:
        requester_env(monkeypatch, tmp_path, server.rpc.url)
        server.replies = [7]
        async with open_session(RequesterSettings()) as session:
            assert await session.rpc.get_slot() == 7


async def test_deploy_asks_a_local_endpoint_without_the_proxy(
    proxied: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def asks_once(rpc: Rpc, *_: Any) -> str:
        return f"v{await rpc.get_slot()}"

    monkeypatch.setattr(deploying, "deploy", asks_once)
    async with running_rpc() as server:
        server.replies = [7]
        payer, program = key_file(tmp_path, "payer.json"), key_file(tmp_path, "program.json")
        await deploying.deploy_program(Namespace(payer=payer, program=program, rpc_url=server.rpc.url))
        assert [asked["method"] for asked in server.asked] == ["getSlot"]


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8899",
        "ws://127.0.0.1:8900",
        "http://",
        "http:///path",
        "",
        "http://h:99999",
        "http://[::1",
        "http://h\n",
    ],
)
def test_an_rpc_url_that_is_none_is_refused_at_the_start_of_a_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    requester_env(monkeypatch, tmp_path, url)
    with pytest.raises(ValidationError, match="rpc_url"):
        RequesterSettings()


def test_http_and_websocket_urls_are_not_taken_for_each_other() -> None:
    http, websocket = TypeAdapter(HttpUrl), TypeAdapter(WebsocketUrl)
    for url in ("http://127.0.0.1:8899", "https://rpc.example.org/?key=1", "http://[::1]:8899/"):
        assert http.validate_python(url) == url
        with pytest.raises(ValidationError, match=r"such as ws://127\.0\.0\.1:8900"):
            websocket.validate_python(url)
    for url in ("ws://127.0.0.1:8900", "wss://rpc.example.org/?key=1"):
        assert websocket.validate_python(url) == url
        with pytest.raises(ValidationError, match=r"such as http://127\.0\.0\.1:8899"):
            http.validate_python(url)


@pytest.mark.parametrize(
    "url", ["ftp://user:secret@h/p?key=secret", "wss://h/secret", "http://?key=secret", "http://h:secret/"]
)
def test_the_error_of_a_url_does_not_show_its_keys(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(HttpUrl).validate_python(url)
    assert "secret" not in refused.value.errors()[0]["msg"]
