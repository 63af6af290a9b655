"""The reference program: its IDL and its two builds, as they are committed."""

from pathlib import Path
from typing import Final, Literal

_HERE: Final = Path(__file__).parent

IDL_PATH: Final = _HERE / "idl" / "splitup.json"
"""The Anchor IDL, in the layout of spec 0.1.0."""


def program_bytes(version: Literal["v0", "v3"]) -> bytes:
    """The ELF for this sBPF version. Clusters where SIMD-0500 is active take v3 only, older ones v0 only."""
    return (_HERE / "builds" / f"splitup.{version}.so").read_bytes()
