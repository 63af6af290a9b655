import json
import logging
import random
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

import shared.http
from shared import errors
from shared.backoff import Backoff
from shared.errors import ConfigurationError
from shared.logs import JsonFormatter
from shared.messages import TaskRequest
from shared.token import RequireToken, read_token

REQUEST = {
    "taskId": "t",
    "modelId": "m",
    "executionId": "e",
    "inputUris": ["s3://b/k"],
    "outputCount": 1,
}


def test_every_error_stands_in_the_drawn_tree() -> None:
    drawn = {line.split("──")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "──" in line}
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.SplitUpError) and value is not errors.SplitUpError
    }
    assert drawn == defined


def test_a_request_speaks_camel_case_and_refuses_what_it_does_not_know() -> None:
    request = TaskRequest.model_validate(REQUEST)
    assert json.loads(request.to_wire())["inputUris"] == ["s3://b/k"]
    with pytest.raises(ValidationError, match="extra"):
        TaskRequest.model_validate({**REQUEST, "surprise": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"taskId": "../x"},
        {"inputUris": []},
        {"inputUris": ["http://x/y"]},
        {"outputCount": 0},
        {"outputCount": "1"},
    ],
)
def test_a_request_that_breaks_a_rule_names_the_field(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        TaskRequest.model_validate({**REQUEST, **change})


def test_the_attempt_and_the_times_are_no_content() -> None:
    first = TaskRequest.model_validate({**REQUEST, "attempt": 1, "chainTime": 5, "landingMargin": 1})
    second = TaskRequest.model_validate({**REQUEST, "attempt": 2})
    other = TaskRequest.model_validate({**REQUEST, "outputCount": 2})
    assert first.content() == second.content() != other.content()


def test_backoff_doubles_up_to_its_cap_and_keeps_half_of_it_at_least() -> None:
    backoff, rng = Backoff(base_s=1.0, cap_s=8.0), random.Random(1)
    for attempt, ceiling in enumerate([1, 2, 4, 8, 8, 8]):
        assert all(ceiling / 2 <= backoff.delay_s(attempt, rng) <= ceiling for _ in range(50))


def test_a_log_line_is_one_line_of_escaped_json() -> None:
    record = logging.LogRecord("node", logging.INFO, "", 0, "evil \x1b[2J\n%s", ("é\r",), None)
    line = JsonFormatter().format(record)
    assert "\x1b" not in line and "\n" not in line and "\r" not in line
    assert json.loads(line)["message"] == "evil \x1b[2J\né\r"


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("x" * 40)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == "x" * 40


async def test_only_health_is_open_without_the_token() -> None:
    app = FastAPI()
    app.add_middleware(RequireToken, token="t" * 40)
    app.get("/health")(lambda: {"ok": True})
    app.get("/ready")(lambda: {"ok": True})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        assert (await client.get("/health")).status_code == 200
        refused = await client.get("/ready", headers={b"Authorization": "Bearer é".encode()})
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await client.get("/ready", headers={"Authorization": "Bearer " + "t" * 40})).status_code == 200


def test_what_httpcore_looks_for_at_each_request_is_there_or_known_to_be_absent() -> None:
    assert shared.http.NO_PROXY_FOR_LOOPBACK
    assert "sniffio" in sys.modules or find_spec("sniffio") is not None
