"""Forks workers on demand and tells of their ends. One thread, no request of any task."""

import contextlib
import errno
import os
import select
import signal
import socket
from typing import NoReturn

from compute.worker.child import serve_as
from compute.worker.lock.sandbox import Lock
from compute.worker.options import WorkerOptions
from compute.worker.wire import Role, receive_packet, send_packet

PASSED_FDS = 2
"""A socket and a stop page."""


def serve(control: socket.socket, options: WorkerOptions, lock: Lock, *, cuda: bool) -> NoReturn:
    """Until the API process is gone; its workers go with it.

    Asked `{"role"}` with a socket and a stop page, it answers `{"pid"}` with a descriptor of that process, and later
    `{"ended", "status"}`; or `{"notForked"}` with the reason.
    """
    wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    while True:
        readable, _, _ = select.select([control, wake], [], [])
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 512)
            _tell_of_ends(control)
        if control in readable:
            packet = receive_packet(control)
            if packet is None:
                os._exit(0)
            request, fds = packet
            if _forked(control, fds) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in (wake, woken, control.detach()):
                    os.close(fd)
                serve_as(Role(request["role"]), fds, options, lock, cuda=cuda)


def _forked(control: socket.socket, fds: list[int]) -> int | None:
    """0 in the new process. Here it is told of, or why there is none: a machine may be short of anything."""
    pid = -1
    try:
        if len(fds) != PASSED_FDS:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        pid = os.fork()
        if pid == 0:
            return 0
        process = os.pidfd_open(pid)
    except OSError as exc:
        if pid > 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        send_packet(control, {"notForked": exc.strerror})
        return None
    finally:
        if pid != 0:
            for fd in fds:
                os.close(fd)
    send_packet(control, {"pid": pid}, [process])
    os.close(process)
    return pid


def _tell_of_ends(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        send_packet(control, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})
