import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from compute.settings import ComputeSettings
from listener.settings import ListenerSettings

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_settings_is_what_the_classes_say() -> None:
    script = runpy.run_path(str(DOCS / "settings_table.py"))
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == script["page"](), "run make settings"


@pytest.mark.parametrize("settings", [ListenerSettings, ComputeSettings])
def test_every_setting_has_a_line_of_meaning(settings: type) -> None:
    for name, field in settings.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_nothing_listens_beyond_loopback_unless_asked() -> None:
    assert ListenerSettings.model_fields["host"].default == "127.0.0.1"
    assert ComputeSettings.model_fields["host"].default == "127.0.0.1"


def test_a_prefix_that_is_no_uri_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITUP_TOKEN_FILE", "token")
    monkeypatch.setenv("SPLITUP_OUTPUT_PREFIX", "s3://bucket/out")
    monkeypatch.setenv("SPLITUP_ALLOWED_PREFIXES", "s3://bucket/tasks, http://169.254.169.254/")
    with pytest.raises(ValidationError, match="169"):
        ComputeSettings()
    monkeypatch.setenv("SPLITUP_ALLOWED_PREFIXES", "s3://bucket/tasks, file:///srv/tensors/")
    assert [str(prefix) for prefix in ComputeSettings().allowed_prefixes] == [
        "s3://bucket/tasks",
        "file:///srv/tensors",
    ]


@pytest.mark.parametrize("url", ["localhost:8750", "ftp://host", "http://", "", "http:///path"])
def test_a_url_that_is_none_is_refused_with_the_setting_that_holds_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name in ("KEYPAIR", "PROGRAM_ID", "TOKEN_FILE"):
        monkeypatch.setenv(f"SPLITUP_{name}", "x")
    monkeypatch.setenv("SPLITUP_WS_URL", "ws://127.0.0.1:8900")
    monkeypatch.setenv("SPLITUP_RPC_URL", url)
    with pytest.raises(ValidationError, match="rpc_url"):
        ListenerSettings()
