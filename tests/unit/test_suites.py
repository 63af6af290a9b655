"""No suite is left out of the ordinary run unseen."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDS_A_DEVICE = {"tests/cuda"}


def test_the_ordinary_run_names_every_suite_but_that_of_a_cuda_device() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = settings["tool"]["pytest"]["ini_options"]["testpaths"]
    suites = {folder.relative_to(ROOT).as_posix() for folder in (ROOT / "tests").iterdir() if _has_tests(folder)}
    assert set(named) == suites - NEEDS_A_DEVICE
    assert suites >= NEEDS_A_DEVICE


def _has_tests(folder: Path) -> bool:
    return any(folder.glob("test_*.py"))
