"""A validator of a file's content out of what its file system tells, as an ETag is one of an object's.

A file system stamps changes by a clock that ticks. What changes twice within a tick, with the same size, looks the same
after both; so a validator that was taken so soon after a change is weak.
"""

import os

from compute.storage.store import WEAK

TICK_NS = 100_000_000
"""Linux stamps by a clock that is at most 10 ms behind; the rest is for a server of files whose clock is."""
WHOLE_SECONDS_TICK_NS = 2_000_000_000
"""Of a file system that knows whole seconds only, or even ones."""
_SECOND_NS = 1_000_000_000


def file_version(status: os.stat_result, now_ns: int) -> str:
    """`now_ns`: Unix nanoseconds, taken before `status` and before what it is to vouch for was read.

    Strong: whatever changes the file from `now_ns` on gives it another version. Weak: what changes it at once may not.
    Writes through a mapping are seen when their page becomes dirty, not each of them.
    """
    # utime(2) sets the time of the last write to anything; the inode's own time it can only make new.
    version = f"{_content(status)}-{status.st_ctime_ns}"
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    tick = TICK_NS if newest % _SECOND_NS else WHOLE_SECONDS_TICK_NS
    return version if newest < now_ns - tick else WEAK + version


def is_version_of(version: str, status: os.stat_result) -> bool:
    """The file was not written to. A new mode or hard link changes its version, but must fail nobody who reads it."""
    return version.removeprefix(WEAK).rpartition("-")[0] == _content(status)


def _content(status: os.stat_result) -> str:
    return f"{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
