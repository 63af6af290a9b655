"""`python -m tests.cuda [PYTEST'S ARGUMENTS]`: this suite, where there is a device; else one sentence and no pass."""

import os
import sys

from tests.cuda.device import no_device

if (why := no_device()) is not None:
    sys.exit(f"nothing was tested: {why}")
arguments = [sys.executable, "-m", "pytest", "tests/cuda", *sys.argv[1:]]
os.execve(sys.executable, arguments, os.environ | {"SPLITUP_TEST_ALL": "1"})
