"""Workers that are in a stranger's hands: `python -m tests.hostile.hostile_worker …`, locked as any other.

Requests do what the first number of their first input says: see `Deed`.
"""

import ctypes
import json
import os
import signal
import threading
import time
from enum import IntEnum

import torch

from compute.worker import __main__ as fork_server
from compute.worker.loop import WorkerLoop
from compute.worker.program import Program
from shared.errors import ComputationFailed
from tests.hostile.attempts import answers

_serve = WorkerLoop.serve
_run = Program.run
_probe = WorkerLoop._probe
_of_the_first_thread: dict[str, str] = {}
_deeds: set["Deed"] = set()

DEVICE_NODES = "TORCH_TEST_DEVICE_NODES"
"""Set: the fork server believes that there are a GPU's device nodes; of what a worker is given, this passes."""


class Deed(IntEnum):
    NOTHING = 0
    ATTEMPTS_HERE = 1
    """Fails with what came of the attempts in the thread that runs graphs."""
    ATTEMPTS_IN_THE_FIRST_THREAD = 2
    ATTEMPTS_IN_A_NEW_THREAD = 3
    WRITE_TO_AN_INPUT = 4
    CRASH = 5
    HANG = 6
    EAT_MEMORY = 7
    SAY_SICK = 8
    """Fails, and from then on answers each probe that the device is sick."""
    SAY_NOTHING = 9
    """Fails, and from then on answers no probe."""


def _deed(self: Program, inputs: list[torch.Tensor], *rest: object) -> list[torch.Tensor]:
    deed = Deed(int(inputs[0].reshape(-1)[0]))
    parent = os.getppid()
    _deeds.add(deed)
    if deed in (Deed.SAY_SICK, Deed.SAY_NOTHING):
        raise ComputationFailed("from now on probes are answered otherwise")
    if deed is Deed.ATTEMPTS_HERE:
        raise ComputationFailed(json.dumps(answers(parent)))
    if deed is Deed.ATTEMPTS_IN_THE_FIRST_THREAD:
        raise ComputationFailed(json.dumps(_of_the_first_thread))
    if deed is Deed.ATTEMPTS_IN_A_NEW_THREAD:
        told: dict[str, str] = {}
        thread = threading.Thread(target=lambda: told.update(answers(parent)))
        thread.start()
        thread.join()
        raise ComputationFailed(json.dumps(told))
    if deed is Deed.WRITE_TO_AN_INPUT:
        ctypes.memset(inputs[0].data_ptr(), 7, 4)
    if deed is Deed.CRASH:
        ctypes.string_at(0)
    if deed is Deed.HANG:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            time.sleep(1)
    if deed is Deed.EAT_MEMORY:
        eaten = []
        while True:
            eaten.append(torch.empty(256 << 20, dtype=torch.uint8))
    return _run(self, inputs, *rest)  # type: ignore[arg-type]


def _probe_as_it_pleases(self: WorkerLoop, *given: object) -> None:
    if Deed.SAY_SICK in _deeds:
        raise ComputationFailed("the device is sick")
    while Deed.SAY_NOTHING in _deeds:
        time.sleep(1)
    _probe(self, *given)  # type: ignore[arg-type]


def _serve_after_attempts(self: WorkerLoop) -> None:
    _of_the_first_thread.update(answers(os.getppid()))
    _serve(self)


if __name__ == "__main__":
    WorkerLoop.serve = _serve_after_attempts  # type: ignore[method-assign]
    WorkerLoop._probe = _probe_as_it_pleases  # type: ignore[method-assign,assignment]
    Program.run = _deed  # type: ignore[method-assign,assignment]
    if DEVICE_NODES in os.environ:
        fork_server.has_cuda_devices = lambda: True
    fork_server.main()
