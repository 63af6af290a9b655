"""A process under the worker's lock, without torch: `python -m tests.hostile.locked_process PROFILE UID`.

It becomes that user first, where it is root, then locks itself as a fork server and its fork do. It prints what held,
what came of every attempt in its first thread, in one from before the lock of calls, and in one made after it, how
many threads it could make, and what came of what CUDA's driver does as it starts, before the lock of calls and after.
"""

import codecs
import errno
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from compute.worker.lock import identity
from compute.worker.lock.calls import Profile
from compute.worker.lock.sandbox import Lock
from tests.hostile.attempts import answers

MAX_THREADS = 20
"""In place of the real limit, which a test would take long to reach."""


def _threads_that_can_be_made() -> int:
    end = threading.Event()
    made: list[threading.Thread] = []
    try:
        while len(made) < 4 * MAX_THREADS:
            thread = threading.Thread(target=end.wait)
            thread.start()
            made.append(thread)
    except RuntimeError:
        pass
    end.set()
    return len(made)


def _name_a_thread() -> None:
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("cuda", encoding="ascii")


def _make_memory_that_is_a_file() -> None:
    os.ftruncate(os.memfd_create("cuda"), 4096)


def _as_the_driver() -> dict[str, str]:
    return {"name a thread": _came_of(_name_a_thread), "memory": _came_of(_make_memory_that_is_a_file)}


def _came_of(deed: Callable[[], None]) -> str:
    try:
        deed()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return "done"


def main() -> None:
    profile, user = Profile(sys.argv[1]), int(sys.argv[2])
    server = os.getpid()
    codecs.lookup("ascii")  # that user may not be able to import what is not imported yet
    if user != os.getuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    lock = Lock("required")
    cuda = profile is Profile.CUDA
    lock.before_imports((), may_use_cuda=cuda)
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status))
    identity.MAX_THREADS = MAX_THREADS
    lock.before_threads(server, cuda=cuda, memory_bytes=None if cuda else 1 << 30, threads=1)
    locked = threading.Event()
    told: dict[str, object] = {}
    before = threading.Thread(
        target=lambda: (locked.wait(), told.update({"a thread from before": answers(server)}))
    )
    before.start()
    starting = _as_the_driver()
    sandbox = lock.after_warm_up(profile)
    locked_in = _as_the_driver()
    locked.set()
    before.join()
    told["the first thread"] = answers(server)
    try:
        after = threading.Thread(target=lambda: told.update({"a thread from after": answers(server)}))
        after.start()
        after.join()
    except RuntimeError as exc:
        told["a thread from after"] = {type(exc).__name__: "EPERM"}
    seen = {
        "held": sandbox.held,
        "gaps": sandbox.gaps,
        "told": told,
        "threads": _threads_that_can_be_made(),
        "starting": starting,
        "lockedIn": locked_in,
    }
    print(json.dumps(seen), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
