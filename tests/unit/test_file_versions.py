"""When a file's validator promises equal bytes, on the file system of the tests and by stamps that are made up."""

import os
import time
from pathlib import Path

import pytest

from compute.storage.file_versions import TICK_NS, WHOLE_SECONDS_TICK_NS, file_version, is_version_of
from compute.storage.files import FileStorage
from shared.uris import parse_object_uri, parse_prefix
from tests.written import wait_until_settled, write_settled

HOUR_NS = 3_600_000_000_000


def status(*, changed_ns: int, written_ns: int | None = None) -> os.stat_result:
    times = {"st_mtime_ns": changed_ns if written_ns is None else written_ns, "st_ctime_ns": changed_ns}
    return os.stat_result((0o100644, 1, 2, 1, 0, 0, 3, 0, 0, 0), times)


async def version(path: Path) -> str:
    storage = FileStorage([parse_prefix(f"file://{path.parent}")])
    try:
        return (await storage.read_start(parse_object_uri(f"file://{path}"), 1)).version
    finally:
        storage.close()


@pytest.mark.parametrize(
    ("stamp", "tick"), [(10**18 + 1, TICK_NS), (10**18, WHOLE_SECONDS_TICK_NS)], ids=["finer", "whole seconds"]
)
def test_a_validator_is_weak_until_the_clock_of_the_file_system_has_ticked(stamp: int, tick: int) -> None:
    for since in (-HOUR_NS, 0, tick):
        assert file_version(status(changed_ns=stamp), stamp + since).startswith("W/")
    assert not file_version(status(changed_ns=stamp), stamp + tick + 1).startswith("W/")


def test_neither_an_old_time_that_was_set_nor_an_inode_that_keeps_its_own_makes_it_strong() -> None:
    new, old = 10**18 + 1, 10**18 - HOUR_NS + 1
    assert file_version(status(changed_ns=new, written_ns=old), new).startswith("W/")
    assert file_version(status(changed_ns=old, written_ns=new), new).startswith("W/")


async def test_a_file_that_was_just_written_has_a_weak_validator_and_later_a_strong_one(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"abc")
    later = time.time_ns() + HOUR_NS
    os.utime(path, ns=(later, later))
    assert (await version(path)).startswith("W/"), "it may be written to again at the same moment"
    os.utime(path, ns=(1, 1))
    wait_until_settled(path)
    assert not (await version(path)).startswith("W/")
    assert await version(path) == await version(path)


async def test_a_file_that_was_changed_in_place_and_given_its_old_time_has_another_validator(
    tmp_path: Path,
) -> None:
    path = tmp_path / "object"
    write_settled(path, b"abc")
    before, held = path.stat(), await version(path)
    path.write_bytes(b"xyz")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert (await version(path)).removeprefix("W/") != held


def test_whoever_reads_is_held_to_the_content_whether_the_validator_is_weak_or_strong() -> None:
    stamp = 10**18 + 1
    weak, strong = (file_version(status(changed_ns=stamp), stamp + since) for since in (0, HOUR_NS))
    for held in (weak, strong):
        assert is_version_of(held, status(changed_ns=stamp))
        assert is_version_of(held, status(changed_ns=stamp + 5, written_ns=stamp)), "a new hard link"
        assert not is_version_of(held, status(changed_ns=stamp + 5))
