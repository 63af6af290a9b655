"""The lock as root and as a user without any right, tried without torch."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from compute.worker.lock.calls import Profile
from compute.worker.lock.sandbox import CORE, Part, check_sandbox
from tests.hostile import locked_process
from tests.hostile.attempts import OPENED
from tests.hostile.locked_process import MAX_THREADS
from tests.needs import absent

NOBODY = 65_534
USERS = sorted({os.getuid(), NOBODY}) if os.getuid() == 0 else [os.getuid()]
DENIED = {"EPERM", "EACCES", "ENOSYS"}


def locked(profile: Profile, user: int) -> dict[str, Any]:
    if gaps := check_sandbox("best-effort"):
        absent(f"this machine cannot lock a process: {gaps}")
    command = [sys.executable, "-m", locked_process.__name__, profile, str(user)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("profile", [Profile.CPU, Profile.PLANNER])
def test_every_attempt_of_every_thread_is_denied_whoever_the_user_is(profile: Profile, user: int) -> None:
    seen = locked(profile, user)
    assert set(seen["held"]) >= CORE
    assert (set(seen["gaps"]) == {Part.USER, Part.NETWORK}) == (user != 0)
    assert len(seen["told"]) == 3
    for thread, told in seen["told"].items():
        assert {name: answer for name, answer in told.items() if answer not in DENIED} == {}, thread
    assert 0 < seen["threads"] <= MAX_THREADS if profile is Profile.CPU else seen["threads"] == 0


LEFT_TO_THE_DRIVER = {"look at a file", "list a folder", "ioctl"}
"""Calls that seccomp lets through with CUDA and Landlock does not govern; the first tells names and sizes."""
OF_FILES = {"read a file", "make a file", *OPENED}
"""What seccomp lets through with CUDA, so that Landlock alone stands in the way."""


@pytest.mark.parametrize("user", USERS)
def test_with_cuda_landlock_alone_keeps_files_away_and_the_rest_is_denied_as_ever(user: int) -> None:
    seen = locked(Profile.CUDA, user)
    assert set(seen["held"]) >= CORE
    for thread, told in seen["told"].items():
        assert {name: told[name] for name in OF_FILES} == dict.fromkeys(OF_FILES, "EACCES"), thread
        rest = {name: answer for name, answer in told.items() if name not in LEFT_TO_THE_DRIVER}
        assert {name: answer for name, answer in rest.items() if answer not in DENIED} == {}, thread
        assert "succeeded" not in (told["list a folder"], told["ioctl"])


@pytest.mark.parametrize("user", USERS)
def test_what_cudas_driver_does_as_it_starts_is_let_through_to_it_alone(user: int) -> None:
    on_host, on_device = locked(Profile.CPU, user), locked(Profile.CUDA, user)
    assert on_host["starting"] == {"name a thread": "EACCES", "memory": "EFBIG"}
    assert on_device["starting"] == {"name a thread": "done", "memory": "done"}
    # Threads come and go later too; memory that is a file is made while it starts.
    assert on_device["lockedIn"] == {"name a thread": "done", "memory": "EPERM"}
