"""`python -m compute` whose workers are in a stranger's hands: see hostile_worker.py."""

import sys

from compute.__main__ import main
from compute.worker import launcher

HOSTILE_WORKER = "tests.hostile.hostile_worker"

_command = launcher._command


def _hostile(*given) -> list[str]:  # type: ignore[no-untyped-def]
    return [sys.executable, "-m", HOSTILE_WORKER, *_command(*given)[3:]]


if __name__ == "__main__":
    launcher._command = _hostile
    main()
