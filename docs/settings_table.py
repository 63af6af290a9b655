"""Writes docs/settings.md from the settings classes: `python docs/settings_table.py`; `--check` compares."""

import sys
from pathlib import Path

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from compute.settings import ComputeSettings
from listener.settings import ListenerSettings
from requester.settings import RequesterSettings

PAGE = Path(__file__).parent / "settings.md"
INTRODUCTION = """# Settings

Both processes and the requester's commands read environment variables. What has no default must be set; who
lacks one says so and does not start. This page is generated: `make settings` writes it anew.
"""


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "must be set"
    if value is None or (isinstance(value, tuple | frozenset | dict | str) and not value):
        return "none"
    return f"`{value}`"


def table(settings: type[BaseSettings]) -> str:
    """One row per field: name, default, meaning."""
    rows = [
        f"| `SPLITUP_{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in settings.model_fields.items()
    ]
    return "\n".join(["| Variable | Default | Meaning |", "|---|---|---|", *rows])


def page() -> str:
    parts = [
        f"## {title}\n\n{table(settings)}\n"
        for title, settings in (
            ("Listener", ListenerSettings),
            ("Compute", ComputeSettings),
            ("Requester's commands", RequesterSettings),
        )
    ]
    return "\n".join([INTRODUCTION, *parts])


def main() -> None:
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE} is not what the settings classes say: run make settings")


if __name__ == "__main__":
    main()
