"""A process under the worker's lock, without torch: `python -m tests.hostile.locked_process PROFILE UID`.

It becomes that user first, where it is root, then locks itself as a fork server and its fork do. It prints what held
and what came of every attempt in its first thread, in one from before the lock of calls, and in one made after it.
"""

import codecs
import json
import os
import sys
import threading

from compute.worker.lock.calls import Profile
from compute.worker.lock.sandbox import Lock
from tests.hostile.attempts import answers


def main() -> None:
    profile, user = Profile(sys.argv[1]), int(sys.argv[2])
    server = os.getpid()
    codecs.lookup("ascii")  # that user may not be able to import what is not imported yet
    if user != os.getuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    lock = Lock("required")
    lock.before_imports((), may_use_cuda=False)
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status))
    lock.before_threads(server, cuda=False, memory_bytes=1 << 30)
    locked = threading.Event()
    told: dict[str, object] = {}
    before = threading.Thread(
        target=lambda: (locked.wait(), told.update({"a thread from before": answers(server)}))
    )
    before.start()
    sandbox = lock.after_warm_up(profile)
    locked.set()
    before.join()
    told["the first thread"] = answers(server)
    try:
        after = threading.Thread(target=lambda: told.update({"a thread from after": answers(server)}))
        after.start()
        after.join()
    except RuntimeError as exc:
        told["a thread from after"] = {type(exc).__name__: "EPERM"}
    print(json.dumps({"held": sandbox.held, "gaps": sandbox.gaps, "told": told}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
