"""What a test needs that may be absent: it is skipped with one line of reason, or fails where all must run."""

import os
import shutil
from pathlib import Path

import pytest

ALL_MUST_RUN = os.environ.get("SPLITUP_TEST_ALL") == "1"


def absent(reason: str) -> None:
    """Skip this test, or fail it where SPLITUP_TEST_ALL=1 says that nothing may be skipped."""
    if ALL_MUST_RUN:
        pytest.fail(f"SPLITUP_TEST_ALL=1, but {reason}")
    pytest.skip(reason)


def needs(program: str, reason: str) -> Path:
    """The path of `program`; without it the test is skipped with `reason`."""
    found = shutil.which(program)
    if found is None:
        absent(f"{program} is not on the PATH: {reason}")
    assert found is not None
    return Path(found)
