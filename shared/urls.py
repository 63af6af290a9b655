"""The URLs of endpoints, as settings take them. An error never shows path, query or password: keys are in them."""

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator


def _check(text: str, schemes: tuple[str, ...], example: str) -> str:
    parts = _parts(text)
    if parts is None:
        raise ValueError(f"not a URL such as {example}")
    if parts.scheme not in schemes or not parts.hostname:
        scheme, host = parts.scheme[:20], (parts.hostname or "")[:100]
        raise ValueError(f"not a URL such as {example}: its scheme is {scheme!a}, its host {host!a}")
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


HttpUrl = Annotated[str, AfterValidator(_http)]
WebsocketUrl = Annotated[str, AfterValidator(_websocket)]
