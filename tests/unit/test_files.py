import asyncio
import errno
import os
import time
from pathlib import Path

import pytest

from compute.storage.files import FINISH_S, FileStorage
from shared.errors import InputInvalid, InputMissing, StorageUnavailable
from shared.uris import ObjectUri, parse_object_uri, parse_prefix

CHUNK_READ_S = 0.1
CHUNK_WRITE_S = 0.05


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def storage(root: Path):
    files = FileStorage([parse_prefix(f"file://{root}")])
    yield files
    files.close()


def uri(path: Path) -> ObjectUri:
    return parse_object_uri(f"file://{path}")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_an_object_is_put_once_and_read_in_ranges(root, storage):
    there = uri(root / "a" / "b" / "object")
    assert await storage.put_new(there, [b"abc", memoryview(b"defg"), b""]) is True
    assert await storage.put_new(there, [b"other"]) is False
    assert names(root / "a" / "b") == ["object"]
    assert await storage.read_range(there, 2, 3) == b"cde"
    start = await storage.read_start(there, 100)
    assert (start.data, start.size) == (b"abcdefg", 7)
    buffer = bytearray(4)
    await storage.read_into(there, 3, memoryview(buffer), start.version)
    assert buffer == b"defg"


async def test_of_many_puts_at_once_one_creates_and_readers_see_it_whole(root, storage):
    there = uri(root / "x" / "object")
    created = await asyncio.gather(*(storage.put_new(there, [bytes([n]) * 100_000]) for n in range(16)))
    assert sum(created) == 1
    content = (root / "x" / "object").read_bytes()
    assert len(set(content)) == 1
    assert len(content) == 100_000
    assert names(root / "x") == ["object"]


async def test_reading_beyond_the_end_is_refused_with_both_numbers(root, storage):
    (root / "object").write_bytes(b"abc")
    with pytest.raises(InputInvalid, match="ends at byte 3; bytes up to 5"):
        await storage.read_range(uri(root / "object"), 1, 4)


async def test_an_object_that_changed_since_its_header_was_read_is_noticed(root, storage):
    (root / "object").write_bytes(b"abc")
    start = await storage.read_start(uri(root / "object"), 2)
    (root / "new").write_bytes(b"xyz")
    (root / "new").rename(root / "object")
    with pytest.raises(InputInvalid, match="changed"):
        await storage.read_range(uri(root / "object"), 0, 3, start.version)


async def test_an_object_that_is_written_while_its_start_is_read_is_noticed(root, storage, monkeypatch):
    (root / "object").write_bytes(b"abc")
    pread = os.pread

    def read_and_written(descriptor, length, offset):
        data = pread(descriptor, length, offset)
        (root / "object").write_bytes(b"abcd")
        return data

    monkeypatch.setattr(os, "pread", read_and_written)
    with pytest.raises(InputInvalid, match="changed"):
        await storage.read_start(uri(root / "object"), 2)


async def test_an_object_that_has_another_mode_and_name_is_read_on(root, storage):
    (root / "object").write_bytes(b"abc")
    start = await storage.read_start(uri(root / "object"), 2)
    (root / "object").chmod(0o600)
    (root / "other").hardlink_to(root / "object")
    assert await storage.read_range(uri(root / "object"), 0, 3, start.version) == b"abc"


async def test_what_is_not_there_is_missing(root, storage):
    (root / "file").write_bytes(b"")
    for absent in (root / "nothing", root / "no" / "folder", root / "file" / "inside"):
        with pytest.raises(InputMissing):
            await storage.read_start(uri(absent), 1)


async def test_a_place_outside_the_roots_is_never_opened(root, storage):
    secret = root.parent / "root-secret"
    secret.write_bytes(b"secret")
    for outside in (secret, root.parent / "other" / "x", Path("/etc/passwd"), root):
        with pytest.raises(StorageUnavailable, match="none of the configured roots"):
            await storage.read_range(uri(outside), 0, 1)
        with pytest.raises(StorageUnavailable, match="none of the configured roots"):
            await storage.put_new(uri(outside), [b"x"])
        with pytest.raises(StorageUnavailable, match="none of the configured roots"):
            await storage.delete(uri(outside))
    assert secret.read_bytes() == b"secret"


async def test_a_symlink_below_a_root_leads_nowhere(root, storage):
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    for through in (root / "link", root / "folder" / "secret"):
        with pytest.raises(InputMissing):
            await storage.read_start(uri(through), 6)
        with pytest.raises(InputMissing):
            await storage.read_range(uri(through), 0, 6)
    with pytest.raises(StorageUnavailable):
        await storage.put_new(uri(root / "folder" / "new"), [b"x"])
    assert await storage.put_new(uri(root / "link"), [b"x"]) is False
    await storage.delete(uri(root / "folder" / "secret"))
    assert names(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"


async def test_a_symlink_in_the_roots_own_path_is_the_operators_and_followed(root):
    (root / "object").write_bytes(b"abc")
    (root.parent / "alias").symlink_to(root)
    storage = FileStorage([parse_prefix(f"file://{root.parent}/alias")])
    assert (await storage.read_start(uri(root.parent / "alias" / "object"), 1)).size == 3
    storage.close()


async def test_what_is_no_plain_file_is_missing_and_does_not_hang(root, storage):
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    for odd in ("pipe", "folder"):
        with pytest.raises(InputMissing):
            await asyncio.wait_for(storage.read_start(uri(root / odd), 1), 5)


async def test_delete_removes_the_object_and_what_a_killed_put_left(root, storage):
    await storage.put_new(uri(root / "a" / "object"), [b"x"])
    (root / "a" / ".object.0011223344556677.part").write_bytes(b"half")
    (root / "a" / ".other.0011223344556677.part").write_bytes(b"half")
    await storage.delete(uri(root / "a" / "object"))
    await storage.delete(uri(root / "a" / "object"))
    await storage.delete(uri(root / "b" / "object"))
    assert names(root / "a") == [".other.0011223344556677.part"]


async def test_a_root_that_is_gone_is_shown_by_the_probe(root, storage):
    await storage.probe()
    root.rmdir()
    with pytest.raises(StorageUnavailable, match="create it"):
        await storage.probe()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
async def test_a_root_whose_file_system_fails_is_shown_by_the_probe(root, storage, monkeypatch, number):
    def failing(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fstatvfs", failing)
    with pytest.raises(StorageUnavailable, match=f"{root} does not answer: {os.strerror(number)}"):
        await storage.probe()


async def test_a_cancelled_put_leaves_nothing(root, storage, monkeypatch):
    (root / "a").mkdir()
    large = memoryview(bytes(256 << 20))
    write = os.write

    def slowly(*of):
        time.sleep(CHUNK_WRITE_S)
        return write(*of)

    monkeypatch.setattr(os, "write", slowly)
    putting = asyncio.create_task(storage.put_new(uri(root / "a" / "object"), [large]))
    while not any(part.stat().st_size for part in (root / "a").iterdir()):  # noqa: ASYNC110 # a thread writes it
        await asyncio.sleep(0.01)
    begun = time.monotonic()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert time.monotonic() - begun < FINISH_S
    for _ in range(600):
        if names(root / "a") == []:
            break
        await asyncio.sleep(0.05)
    assert names(root / "a") == []


async def test_a_cancelled_read_does_not_touch_the_buffer_any_more(root, storage, monkeypatch):
    (root / "object").write_bytes(b"\1" * (64 << 20))
    buffer = bytearray(64 << 20)
    read = os.preadv

    def slowly(*of):
        time.sleep(CHUNK_READ_S)
        return read(*of)

    monkeypatch.setattr(os, "preadv", slowly)
    reading = asyncio.create_task(storage.read_into(uri(root / "object"), 0, memoryview(buffer)))
    while not buffer[0]:  # noqa: ASYNC110 # a thread fills it
        await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    filled = buffer.count(1)
    assert filled < len(buffer)
    await asyncio.sleep(3 * CHUNK_READ_S)
    assert buffer.count(1) == filled
