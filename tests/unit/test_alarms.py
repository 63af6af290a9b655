"""Each alarm has a name that the code uses, and a paragraph for whoever it calls."""

import json
import logging
import re
from pathlib import Path

import pytest

from listener.alarms import Alarm, sound
from shared.logs import JsonFormatter

ROOT = Path(__file__).parents[2]
LISTENER = [path for path in (ROOT / "listener").rglob("*.py") if path.name != "alarms.py"]


def paragraphs() -> dict[str, str]:
    """Name and text of each paragraph about an alarm in docs/operations.md, in their order."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## Alarms\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^### `(\w+)`\n\n(.+?)(?=\n\n###|\Z)", section, re.MULTILINE | re.DOTALL))


def test_each_alarm_has_a_paragraph_that_says_what_to_do_and_each_paragraph_an_alarm() -> None:
    assert list(paragraphs()) == sorted(alarm.value for alarm in Alarm)
    assert all(len(text) > 100 for text in paragraphs().values())


def test_an_alarm_is_one_line_at_level_error_whose_message_is_its_name(caplog: pytest.LogCaptureFixture) -> None:
    sound(Alarm.ENDPOINT_OUT, endpoint="https://rpc.example", why="it is of another cluster")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    line = json.loads(JsonFormatter().format(record))
    assert (line["logger"], line["message"], line["why"]) == (
        "listener.alarm",
        "endpoint_out",
        "it is of another cluster",
    )


def test_names_are_words_joined_by_underscores() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", alarm) for alarm in Alarm)


@pytest.mark.parametrize("path", LISTENER, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_the_listener_is_logged_as_an_error_but_alarms(path: Path) -> None:
    assert not re.search(r"\blog\.(error|critical|exception)\(", path.read_text(encoding="utf-8"))
