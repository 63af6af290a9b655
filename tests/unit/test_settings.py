import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from compute.__main__ import main
from compute.settings import ComputeSettings
from listener.settings import ListenerSettings
from shared.settings_errors import told
from shared.urls import shown

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


def listener_environment(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    well = {
        "KEYPAIR": "key.json",
        "PROGRAM_ID": "x",
        "TOKEN_FILE": "token",
        "RPC_URL": "http://127.0.0.1:8899",
        "WS_URL": "ws://127.0.0.1:8900",
    }
    for name, value in (well | changed).items():
        monkeypatch.setenv(f"SPLITUP_{name}", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RPC_URL", "ws://127.0.0.1:8900"),
        ("WS_URL", "http://127.0.0.1:8899"),
        ("COMPUTE_URL", "ws://127.0.0.1:8750"),
        ("REQUESTER_BLOCKLIST", "So11111111111111111111111111111111111111112,0OIl"),
        ("LOG_LEVEL", "verbose"),
    ],
)
def test_a_listener_with_a_wrong_setting_names_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    listener_environment(monkeypatch)
    ListenerSettings()
    listener_environment(monkeypatch, **{name: value})
    with pytest.raises(ValidationError, match=name.lower()):
        ListenerSettings()


def test_a_url_in_a_log_shows_no_key() -> None:
    assert shown("wss://user:secret@rpc.example.org:8900/secret?api-key=secret") == "wss://rpc.example.org:8900"
    assert shown("https://rpc.example.org/secret") == "https://rpc.example.org"


@pytest.fixture
def compute_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What compute needs, all of it well."""
    for name, value in {
        "TOKEN_FILE": "token",
        "OUTPUT_PREFIX": "s3://bucket/out",
        "ALLOWED_PREFIXES": "s3://bucket/tasks",
    }.items():
        monkeypatch.setenv(f"SPLITUP_{name}", value)
    return monkeypatch


def wrong_settings() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        ComputeSettings()
    return caught.value


def test_what_is_wrong_is_told_by_the_variables_names_in_one_line_without_a_value(compute_environment) -> None:
    compute_environment.setenv("SPLITUP_LOG_LEVEL", "verbose-secret")
    compute_environment.setenv("SPLITUP_MAX_TASKS", "secret-many")
    compute_environment.setenv("SPLITUP_ALLOWED_PREFIXES", "s3://bucket/tasks,https://key:secret@host/x")
    compute_environment.delenv("SPLITUP_TOKEN_FILE")
    line = told(wrong_settings())
    assert "secret" not in line
    assert "\n" not in line
    for part in (
        "SPLITUP_LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error'",
        "SPLITUP_MAX_TASKS: Input should be a valid integer",
        "SPLITUP_ALLOWED_PREFIXES: the value is not s3://bucket/key",
        "SPLITUP_TOKEN_FILE: Field required",
    ):
        assert part in line


def test_a_group_of_what_are_no_requesters_is_refused(compute_environment) -> None:
    compute_environment.setenv("SPLITUP_TRUST_GROUPS", '{"us": ["So11111111111111111111111111111111111111112"]}')
    assert list(ComputeSettings().trust_groups) == ["us"]
    compute_environment.setenv("SPLITUP_TRUST_GROUPS", '{"us": ["../other"]}')
    assert "SPLITUP_TRUST_GROUPS: requester the value is not a public key" in told(wrong_settings())


@pytest.mark.parametrize(
    ("name", "value"), [("LOG_LEVEL", "verbose"), ("TRUST_GROUPS", "no JSON"), ("MAX_TASKS", "many")]
)
def test_compute_ends_with_one_line_that_names_the_wrong_setting(
    compute_environment, name: str, value: str
) -> None:
    compute_environment.setenv(f"SPLITUP_{name}", value)
    with pytest.raises(SystemExit) as caught:
        main()
    line = str(caught.value)
    assert name in line.upper()
    assert value not in line
    assert "\n" not in line
