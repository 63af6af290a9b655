"""The parts of the worker's lock that can be tried without a worker."""

import errno
import fcntl
import os
import subprocess
import sys
from contextlib import closing

import pytest

from compute.shared_memory import SharedBuffer, map_shared
from compute.worker.lock import identity, landlock, sandbox, seccomp
from compute.worker.lock.bpf import ALLOW, KILL_PROCESS, Argument, Audit, assemble, errno_of
from compute.worker.lock.calls import Profile
from compute.worker.lock.sandbox import CORE, Lock, Part, Sandbox, check_sandbox
from shared.errors import ConfigurationError
from tests.unit.bpf_machine import verdict

DENY = errno_of(errno.EPERM)
RULES = {
    7: (),
    8: (Argument(1, (3, 5)),),
    9: (Argument(0, (0,), mask=4),),
    10: (Argument(2, (0,), wide=True), Argument(0, (1,))),
}


def judged(number: int, *arguments: int, audit: int = Audit.X86_64) -> int:
    code = assemble(Audit.X86_64, RULES, {11: errno.ENOSYS}, DENY)
    return verdict(code, number, audit, arguments)


def test_a_call_that_is_not_listed_is_denied() -> None:
    assert judged(7) == ALLOW
    assert judged(6) == DENY


def test_an_argument_must_be_one_of_the_values() -> None:
    assert [judged(8, 99, value) for value in (3, 4, 5)] == [ALLOW, DENY, ALLOW]


def test_a_masked_argument_is_judged_by_its_bits() -> None:
    assert [judged(9, value) for value in (0, 3, 4, 7)] == [ALLOW, ALLOW, DENY, DENY]


def test_a_wide_argument_hides_nothing_in_its_upper_half() -> None:
    assert judged(10, 1, 0, 0) == ALLOW
    assert judged(10, 1, 0, 1 << 40) == DENY
    assert judged(10, 2, 0, 0) == DENY


def test_a_call_that_must_look_absent_looks_absent() -> None:
    assert judged(11) == errno_of(errno.ENOSYS)


def test_a_call_of_another_architecture_kills() -> None:
    assert judged(7, audit=Audit.AARCH64) == KILL_PROCESS
    assert judged(7 | 0x4000_0000) == KILL_PROCESS


def test_a_filter_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        assemble(Audit.X86_64, dict.fromkeys(range(3000), ()), {}, DENY)


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_each_profile_fits_into_a_filter(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, architecture: str
) -> None:
    monkeypatch.setattr("compute.worker.lock.calls.ARCHITECTURE", architecture)
    from compute.worker.lock.calls import allowed, audit, errors

    known = audit()
    assert known is not None
    assert assemble(known, allowed(profile), errors(), DENY)


def test_what_was_lent_to_be_read_cannot_be_mapped_to_be_written() -> None:
    with closing(SharedBuffer("given", 4096)) as buffer:
        fd = buffer.lend(writable=False)
        buffer.view[0] = 7
        view = map_shared(fd, 4096, writable=False)
        assert view[0] == 7
        assert view.readonly
        with pytest.raises(PermissionError):
            map_shared(fd, 4096, writable=True)
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"1", 0)


def test_what_was_lent_to_be_written_keeps_its_size_and_its_seals() -> None:
    with closing(SharedBuffer("filled", 4096)) as buffer:
        fd = buffer.lend(writable=True)
        map_shared(fd, 4096, writable=True)[0] = 9
        assert buffer.view[0] == 9
        for change in (
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, 8192),
            lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        ):
            with pytest.raises(PermissionError):
                change()


def test_a_machine_without_landlock_is_told_of_and_refused_where_the_lock_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox.landlock, "abi", lambda: landlock.Absent("no such call"))
    monkeypatch.setattr(sandbox.seccomp, "absent", lambda: None)
    assert check_sandbox("best-effort") == {Part.FILES: "no such call"}
    with pytest.raises(ConfigurationError, match="SPLITUP_SANDBOX=best-effort"):
        check_sandbox("required")


def test_a_lock_that_is_off_takes_nothing_away_and_names_every_part_as_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[str] = []
    for name in ("identity.limit_resources", "identity.leave_network", "identity.leave_user", "landlock.restrict"):
        monkeypatch.setattr(f"compute.worker.lock.{name}", lambda *_, name=name, **__: taken.append(name))
    monkeypatch.setattr(seccomp, "filter_calls", lambda _: taken.append("seccomp"))
    monkeypatch.setattr(identity, "close_all_but", lambda _: None)
    monkeypatch.setattr(sandbox, "prctl", lambda *_: None)
    lock = Lock("off")
    lock.before_imports((), may_use_cuda=False)
    lock.before_threads(1, cuda=False, memory_bytes=None, threads=1)
    assert lock.after_warm_up(Profile.CPU) == Sandbox((), dict.fromkeys(Part, "SPLITUP_SANDBOX=off"))
    assert not taken
    assert check_sandbox("off") == dict.fromkeys(CORE, "SPLITUP_SANDBOX=off")


def test_this_machine_says_whether_it_can_lock() -> None:
    version = landlock.abi()
    assert isinstance(version, landlock.Absent) or version >= 1
    assert seccomp.absent() is None or isinstance(seccomp.absent(), str)


def test_the_fork_server_is_locked_before_it_imports_what_a_lock_is_for() -> None:
    code = "import sys, compute.worker.__main__; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
