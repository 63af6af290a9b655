"""The lock as root and as a user without any right, tried without torch."""

import json
import os
import subprocess
import sys

import pytest

from compute.worker.lock.calls import Profile
from compute.worker.lock.sandbox import CORE, Part, check_sandbox
from tests.hostile import locked_process
from tests.needs import absent

NOBODY = 65_534
DENIED = {"EPERM", "EACCES", "ENOSYS"}


def locked(profile: Profile, user: int) -> dict[str, dict[str, dict[str, str]]]:
    if gaps := check_sandbox("best-effort"):
        absent(f"this machine cannot lock a process: {gaps}")
    command = [sys.executable, "-m", locked_process.__name__, profile, str(user)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("user", sorted({os.getuid(), NOBODY}) if os.getuid() == 0 else [os.getuid()])
@pytest.mark.parametrize("profile", [Profile.CPU, Profile.PLANNER])
def test_every_attempt_of_every_thread_is_denied_whoever_the_user_is(profile: Profile, user: int) -> None:
    seen = locked(profile, user)
    assert set(seen["held"]) >= CORE
    assert (set(seen["gaps"]) == {Part.USER, Part.NETWORK}) == (user != 0)
    assert len(seen["told"]) == 3
    for thread, told in seen["told"].items():
        assert {name: answer for name, answer in told.items() if answer not in DENIED} == {}, thread
