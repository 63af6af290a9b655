"""`file://` objects below configured roots. No symlink is followed below a root, so none leads out of it."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from compute.storage.file_versions import file_version, is_version_of
from compute.storage.retry import ONE_ATTEMPT, PATIENT, RetryPolicy, Transient, retried
from compute.storage.store import NO_BOOK, ObjectStart, UploadBook
from compute.storage.threads import CHUNK_BYTES, Stop, in_thread
from shared.errors import InputInvalid, InputMissing, StorageUnavailable, TaskError
from shared.uris import ObjectUri, relative_key

THREADS = 4
FINISH_S = 5.0
"""How long a cancelled put that has already been linked to its name is waited for."""
_ROOT_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER_FLAGS = _ROOT_FLAGS | os.O_NOFOLLOW
# O_NONBLOCK: opening a named pipe must not hang; it is refused right after, being no regular file.
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
# What the kernel says where a path below a root is not a plain file in plain folders.
_MAY_PASS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENAMETOOLONG}

T = TypeVar("T")


class FileStorage:
    """Storage in local folders. A URI below none of the roots is refused without looking at the disk."""

    def __init__(self, roots: Sequence[ObjectUri], policy: RetryPolicy = PATIENT) -> None:
        self._roots = tuple(roots)
        # What is not there in a folder is not there: no other host wrote it a moment ago.
        self._policy = replace(policy, missing_retries=0)
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    async def read_start(self, uri: ObjectUri, length: int) -> ObjectStart:
        def work(_: Stop) -> ObjectStart:
            now_ns = time.time_ns()
            with self._open(uri) as descriptor:
                status = os.fstat(descriptor)
                size, version = status.st_size, file_version(status, now_ns)
                data = os.pread(descriptor, min(length, size), 0)
                if len(data) != min(length, size):
                    raise _too_short(uri, size, len(data))
                _check_version(uri, descriptor, version)
                return ObjectStart(data, size, version)

        return await self._run(uri, work)

    async def read_range(self, uri: ObjectUri, start: int, length: int, version: str | None = None) -> bytes:
        buffer = bytearray(length)
        await self.read_into(uri, start, memoryview(buffer), version)
        return bytes(buffer)

    async def read_into(self, uri: ObjectUri, start: int, view: memoryview, version: str | None = None) -> None:
        def work(stop: Stop) -> None:
            with self._open(uri, version) as descriptor:
                done = 0
                while done < len(view):
                    with stop.touching():
                        count = os.preadv(descriptor, [view[done : done + CHUNK_BYTES]], start + done)
                    if count == 0:
                        raise _too_short(uri, start + len(view), start + done)
                    done += count
                _check_version(uri, descriptor, version)

        await self._run(uri, work)

    async def put_new(
        self,
        uri: ObjectUri,
        parts: Sequence[bytes | memoryview],
        book: UploadBook = NO_BOOK,  # noqa: ARG002 # a file is never uploaded in parts
    ) -> bool:
        def work(stop: Stop) -> bool:
            with self._folder(uri, create=True) as (folder, name):
                return _write_new(folder, name, parts, stop)

        return await self._run(uri, work, absent=StorageUnavailable)

    async def abort_upload(self, uri: ObjectUri, upload_id: str) -> None:
        """There is none."""

    async def delete(self, uri: ObjectUri) -> None:
        """Also removes what a put of this object left behind when its process was killed."""

        def work(_: Stop) -> None:
            with self._folder(uri, create=False) as (folder, name):
                for found in os.listdir(folder):  # noqa: PTH208 # Path knows no descriptors
                    if found == name or _is_temporary(found, name):
                        with suppress(FileNotFoundError):
                            os.unlink(found, dir_fd=folder)
                os.fsync(folder)

        with suppress(InputMissing):
            await self._run(uri, work, policy=ONE_ATTEMPT)

    async def probe(self) -> None:
        def work(_: Stop) -> None:
            for root in self._roots:
                try:
                    with self._open_root(root) as folder:
                        os.fstatvfs(folder)
                except OSError as exc:
                    raise StorageUnavailable(f"the root /{root.key} does not answer: {exc.strerror}") from exc

        await in_thread(self._executor, work)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self,
        uri: ObjectUri,
        work: Callable[[Stop], T],
        absent: type[TaskError] = InputMissing,
        policy: RetryPolicy | None = None,
    ) -> T:
        def mapped(stop: Stop) -> T:
            try:
                return work(stop)
            except OSError as exc:
                if exc.errno in _NOT_THERE:
                    raise absent(f"{uri} is not there, or not a plain file in plain folders") from exc
                if exc.errno in _MAY_PASS:
                    raise Transient(str(exc.strerror)) from exc
                raise StorageUnavailable(f"{uri}: {exc.strerror}") from exc

        async def attempt() -> T:
            return await in_thread(self._executor, mapped, finish_s=FINISH_S)

        return await retried(attempt, policy or self._policy, str(uri))

    def _root_of(self, uri: ObjectUri) -> tuple[ObjectUri, list[str]]:
        """The root that the URI lies below, and the segments behind it."""
        # The longest first: a root may lie below another, behind a symlink of the operator's.
        for root in sorted(self._roots, key=lambda root: -len(root.key)):
            if key := relative_key(root, uri):
                return root, key.split("/")
        raise StorageUnavailable(f"{uri} lies below none of the configured roots of this node")

    @contextmanager
    def _open_root(self, root: ObjectUri) -> Iterator[int]:
        # The operator's own path: symlinks are followed in it, and only in it.
        path = Path("/", root.key)
        try:
            descriptor = os.open(path, _ROOT_FLAGS)
        except OSError as exc:
            raise StorageUnavailable(f"the root {path} cannot be opened: {exc.strerror}; create it") from exc
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _folder(self, uri: ObjectUri, *, create: bool) -> Iterator[tuple[int, str]]:
        """The open folder of the object, reached segment by segment, and the object's name in it."""
        root, (*folders, name) = self._root_of(uri)
        with self._open_root(root) as opened:
            folder = os.dup(opened)
            try:
                for segment in folders:
                    if create:
                        _make_folder(folder, segment)
                    inner = os.open(segment, _FOLDER_FLAGS, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                yield folder, name
            finally:
                os.close(folder)

    @contextmanager
    def _open(self, uri: ObjectUri, version: str | None = None) -> Iterator[int]:
        with self._folder(uri, create=False) as (folder, name):
            descriptor = os.open(name, _READ_FLAGS, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputMissing(f"{uri} is not a plain file")
            _check_version(uri, descriptor, version)
            yield descriptor
        finally:
            os.close(descriptor)


def _make_folder(parent: int, name: str) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return
    os.fsync(parent)


def _check_version(uri: ObjectUri, descriptor: int, version: str | None) -> None:
    if version is not None and not is_version_of(version, os.fstat(descriptor)):
        raise InputInvalid(f"{uri} changed while it was being read")


def _too_short(uri: ObjectUri, wanted: int, got: int) -> InputInvalid:
    return InputInvalid(f"{uri} ends at byte {got}; bytes up to {wanted} were asked for")


def _temporary(name: str) -> str:
    return f".{name[:128]}.{token_hex(8)}.part"


def _is_temporary(found: str, name: str) -> bool:
    return found.startswith(f".{name[:128]}.") and found.endswith(".part")


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_new(folder: int, name: str, parts: Sequence[bytes | memoryview], stop: Stop) -> bool:
    if _is_there(folder, name):
        return False
    temporary = _temporary(name)
    descriptor = os.open(temporary, _WRITE_FLAGS, 0o644, dir_fd=folder)
    try:
        try:
            _write_all(descriptor, parts, stop)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        stop.commit()
        try:
            # link(2) gives the name to the whole file at once, and never replaces what has the name already.
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return False
        return True
    finally:
        os.unlink(temporary, dir_fd=folder)
        os.fsync(folder)


def _write_all(descriptor: int, parts: Sequence[bytes | memoryview], stop: Stop) -> None:
    for part in parts:
        view = memoryview(part)
        done = 0
        while done < len(view):
            with stop.touching():
                done += os.write(descriptor, view[done : done + CHUNK_BYTES])
