"""The URLs of endpoints, as settings take them. An error shows nothing of them: keys are in them."""

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode


def _check(text: str, schemes: tuple[str, ...], example: str) -> str:
    parts = _parts(text)
    if parts is None or parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"not a URL of the scheme {' or '.join(schemes)} with a host, such as {example}")
    return text


def _parts(text: str) -> SplitResult | None:
    """None where it is not a URL at all, or its port none."""
    try:
        parts = urlsplit(text)
        is_port = parts.port != 0
    except ValueError:
        return None
    return parts if is_port and text.isprintable() and " " not in text else None


def _http(text: str) -> str:
    return _check(text, ("http", "https"), "http://127.0.0.1:8899")


def _websocket(text: str) -> str:
    return _check(text, ("ws", "wss"), "ws://127.0.0.1:8900")


def shown(url: str) -> str:
    """What of a URL may stand in a log: scheme, host and port."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


HttpUrl = Annotated[str, AfterValidator(_http)]
WebsocketUrl = Annotated[str, AfterValidator(_websocket)]
HttpUrls = Annotated[tuple[HttpUrl, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)]
"""Separated by commas, the preferred one first."""
WebsocketUrls = Annotated[tuple[WebsocketUrl, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)]
