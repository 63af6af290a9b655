"""Runs one of the two processes on a machine whose clock is wrong: `python -m tests.faults.an_hour_off MODULE SECONDS`.

Nothing in the process is told: every way by which Python reads the wall clock is off. The monotonic clock is not.
"""

import datetime
import runpy
import sys
import time


def shift(seconds: float) -> None:
    real_time, real_ns, real_gmtime, real_localtime = time.time, time.time_ns, time.gmtime, time.localtime
    real_datetime = datetime.datetime

    class Shifted(real_datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls):
            return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
    time.gmtime = lambda at=None: real_gmtime(time.time() if at is None else at)
    time.localtime = lambda at=None: real_localtime(time.time() if at is None else at)
    datetime.datetime = Shifted  # type: ignore[misc]


if __name__ == "__main__":
    module, seconds = sys.argv[1:]
    shift(float(seconds))
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
