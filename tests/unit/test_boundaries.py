"""What a process loads: import-linter checks what the source says, these what happens."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "strangers"),
    [
        ("listener.__main__", {"torch", "boto3", "botocore", "safetensors", "compute", "requester"}),
        ("compute.__main__", {"torch", "solana", "solders", "anchorpy", "listener", "requester"}),
        ("cli.commands.status", {"torch", "boto3", "safetensors", "compute", "requester"}),
        ("cli.commands.rebuild_journal", {"torch", "boto3", "safetensors", "compute", "requester"}),
        ("cli.main", {"torch", "boto3", "solders", "compute", "listener", "requester"}),
    ],
)
def test_a_process_loads_nothing_of_the_other_side(module: str, strangers: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not strangers & set(loaded.split())
