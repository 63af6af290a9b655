"""The lock of one process, in the order in which its parts are put on, and what is missing of it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from compute.worker.lock import files, identity, landlock, seccomp
from compute.worker.lock.calls import Profile
from compute.worker.lock.kernel import PR_SET_NO_NEW_PRIVS, prctl
from shared.errors import ConfigurationError

SandboxMode = Literal["required", "best-effort", "off"]


class Part(StrEnum):
    """Of the lock. Without one of the first two a stranger's graph could reach what this user reaches."""

    FILES = "no files (Landlock)"
    CALLS = "few system calls (seccomp)"
    USER = "own user id"
    NETWORK = "own empty network"


CORE = frozenset({Part.FILES, Part.CALLS})
_OFF = "SPLITUP_SANDBOX=off"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What holds a process, and why the rest does not."""

    held: tuple[str, ...] = ()
    gaps: dict[str, str] = field(default_factory=dict)
    """By name of the part: why it is missing."""

    @property
    def core_gaps(self) -> dict[str, str]:
        return {part: why for part, why in self.gaps.items() if part in CORE}

    def __str__(self) -> str:
        held = ", ".join(self.held) or "nothing"
        missing = "; ".join(f"{part}: {why}" for part, why in self.gaps.items())
        return f"held by {held}" + (f"; without {missing}" if missing else "")


def check_sandbox(mode: SandboxMode) -> dict[str, str]:
    """The core's parts that this machine cannot have, by name with the reason; nothing is changed.

    Raises ConfigurationError if there are any and `mode` requires them.
    """
    if mode == "off":
        return dict.fromkeys(CORE, _OFF)
    gaps: dict[str, str] = {}
    if isinstance(version := landlock.abi(), landlock.Absent):
        gaps[Part.FILES] = version.why
    if (why := seccomp.absent()) is not None:
        gaps[Part.CALLS] = why
    if gaps and mode == "required":
        missing = "; ".join(f"{part}: {why}" for part, why in gaps.items())
        raise ConfigurationError(
            f"the worker cannot be locked here ({missing}); use a kernel with Landlock and seccomp, and a container "
            "profile that lets them through, or set SPLITUP_SANDBOX=best-effort to run strangers' graphs without"
        )
    return gaps


class Lock:
    """One for each process. Call the methods in their order; each may only take away."""

    def __init__(self, mode: SandboxMode) -> None:
        self._off = mode == "off"
        self._gaps: dict[str, str] = dict.fromkeys(Part, _OFF) if self._off else {}
        self._landlock = landlock.abi()

    def before_imports(self, kept: Collection[int], *, may_use_cuda: bool) -> None:
        """In a process with one thread: libraries may be read, nothing else; processes made from now on inherit it."""
        identity.close_all_but({0, 1, 2, *kept})
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        if self._off:
            return
        identity.limit_resources(cuda=may_use_cuda)
        if not may_use_cuda:
            identity.grow_no_file()
        self._note(Part.NETWORK, identity.leave_network())
        self._note(Part.FILES, self._restrict(files.while_importing(cuda=may_use_cuda)))

    def before_threads(self, parent: int, *, cuda: bool, memory_bytes: int | None, threads: int) -> None:
        """In the process that runs graphs, while it has one thread. `memory_bytes`: what it may take in addition, and
        beside that what `threads` take by being there; None sets no limit."""
        if self._off:
            return
        if not cuda:
            identity.grow_no_file()
        if memory_bytes is not None:
            identity.limit_memory(memory_bytes, threads)
        identity.limit_threads()
        if Part.FILES not in self._gaps:
            self._note(Part.FILES, self._restrict(files.with_cuda() if cuda else files.NOTHING))
        self._note(Part.USER, identity.leave_user(parent))

    def after_warm_up(self, profile: Profile) -> Sandbox:
        """For all threads that there are and will be."""
        if self._off:
            return Sandbox((), self._gaps)
        identity.grow_no_file()
        why = seccomp.absent()
        if why is None:
            try:
                seccomp.filter_calls(profile)
            except OSError as exc:
                why = f"seccomp: {exc.strerror}"
        self._note(Part.CALLS, why)
        return Sandbox(tuple(part for part in Part if part not in self._gaps), self._gaps)

    def _restrict(self, allowed: files.Files) -> str | None:
        if isinstance(self._landlock, landlock.Absent):
            return self._landlock.why
        try:
            landlock.restrict(allowed, self._landlock)
        except OSError as exc:
            return f"Landlock: {exc.strerror}"
        return None

    def _note(self, part: Part, why: str | None) -> None:
        if why is not None:
            self._gaps[part] = why
