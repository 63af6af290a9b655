"""How the body of a response is read, over a real connection whose other end a test holds."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse

import pytest

from compute.storage import response as responses
from compute.storage.response import AT_ONCE_BYTES, S3Response
from compute.storage.retry import Transient
from compute.storage.threads import CHUNK_BYTES, Stop, in_thread

PATIENCE_S = 60.0
LARGE = os.urandom(8 * CHUNK_BYTES + 12_345)
ALWAYS, NEVER = 1e9, 0.0


class Watching(Stop):
    """Notes what a thread that waits on the socket would be woken at, before each chunk."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.wakes: list[int] = []
        self._sock = sock

    @contextmanager
    def touching(self) -> Iterator[None]:
        self.wakes.append(wakes_at(self._sock))
        with super().touching():
            yield


def wakes_at(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


@contextmanager
def answered(
    send: Callable[[socket.socket], object], length: int, behind_head: bytes = b"", framing: str = ""
) -> Iterator[tuple[S3Response, socket.socket]]:
    """`behind_head` comes with the head; `framing` is there in place of a length."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        with ours, theirs:
            ours.settimeout(PATIENCE_S)
            head = f"HTTP/1.1 200 OK\r\n{framing or f'Content-Length: {length}'}\r\n\r\n"
            theirs.sendall(head.encode() + behind_head)
            sending = threading.Thread(target=send, args=(theirs,))
            sending.start()
            response = HTTPResponse(ours)
            response.begin()
            with response:
                yield S3Response(response, ours), ours
            sending.join(PATIENCE_S)
            assert not sending.is_alive()


@pytest.mark.parametrize("fast_s", [ALWAYS, NEVER])
def test_a_large_body_comes_whole_and_the_connection_is_left_as_it_was(monkeypatch, fast_s) -> None:
    monkeypatch.setattr(responses, "FAST_S", fast_s)
    buffer = bytearray(len(LARGE))
    with answered(lambda other: other.sendall(LARGE), len(LARGE)) as (answer, sock):
        stop = Watching(sock)
        answer.read_into(memoryview(buffer), stop)
        assert buffer == LARGE
        assert wakes_at(sock) == 1
    assert set(stop.wakes[2:7]) == {AT_ONCE_BYTES if fast_s else 1}


@pytest.mark.parametrize("ahead", [0, 1, 100, 5_000, 2 * CHUNK_BYTES])
def test_what_came_with_the_head_is_part_of_the_body(ahead) -> None:
    buffer = bytearray(len(LARGE))
    with answered(lambda other: other.sendall(LARGE[ahead:]), len(LARGE), LARGE[:ahead]) as (answer, sock):
        answer.read_into(memoryview(buffer), Stop())
        assert buffer == LARGE
        sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_after_a_whole_body_the_next_answer_can_be_read(size) -> None:
    buffer = bytearray(size)
    with answered(lambda other: other.sendall(LARGE[:size]), size) as (answer, _):
        answer.read_into(memoryview(buffer), Stop())
        assert buffer == LARGE[:size]
        assert answer._response.isclosed()


def test_a_body_in_pieces_of_http_comes_whole() -> None:
    def send(other: socket.socket) -> None:
        for begin in range(0, len(LARGE), 300_000):
            piece = LARGE[begin : begin + 300_000]
            other.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        other.sendall(b"0\r\n\r\n")

    buffer = bytearray(len(LARGE))
    with answered(send, 0, framing="Transfer-Encoding: chunked") as (answer, _):
        answer.read_into(memoryview(buffer), Stop())
    assert buffer == LARGE


def test_the_end_of_a_body_is_not_waited_for_until_much_of_it_is_there(monkeypatch) -> None:
    """The last bytes are sent once all before them were taken: who waits for more of them waits in vain."""
    monkeypatch.setattr(responses, "FAST_S", ALWAYS)
    buffer = bytearray(len(LARGE))
    all_but_few = threading.Event()

    def send(other: socket.socket) -> None:
        for begin in range(0, len(LARGE) - 1000, AT_ONCE_BYTES // 3):
            other.sendall(LARGE[begin : min(begin + AT_ONCE_BYTES // 3, len(LARGE) - 1000)])
        assert all_but_few.wait(PATIENCE_S)
        other.sendall(LARGE[-1000:])

    class Telling(Watching):
        @contextmanager
        def touching(self) -> Iterator[None]:
            if len(self.wakes) >= 8:
                all_but_few.set()
            with super().touching():
                yield

    with answered(send, len(LARGE)) as (answer, sock):
        answer.read_into(memoryview(buffer), Telling(sock))
    assert buffer == LARGE


async def test_a_read_that_waits_for_much_and_is_cancelled_ends_at_once(monkeypatch) -> None:
    monkeypatch.setattr(responses, "FAST_S", ALWAYS)
    is_sent, is_over = threading.Event(), threading.Event()

    def send(other: socket.socket) -> None:
        other.sendall(LARGE[: 4 * CHUNK_BYTES + 1])
        is_sent.set()
        assert is_over.wait(PATIENCE_S)

    with answered(send, len(LARGE)) as (answer, sock):

        def read(stop: Stop) -> None:
            with stop.interruptible(lambda: sock.shutdown(socket.SHUT_RDWR)):
                answer.read_into(memoryview(bytearray(len(LARGE))), stop)

        reading = asyncio.create_task(in_thread(None, read))
        while not is_sent.is_set() or wakes_at(sock) != AT_ONCE_BYTES:  # noqa: ASYNC110 # the thread tells nobody
            await asyncio.sleep(0.001)
        reading.cancel()
        async with asyncio.timeout(PATIENCE_S / 2):
            await asyncio.wait({reading})
        is_over.set()
        assert reading.cancelled()


@pytest.mark.parametrize("sent", [0, 3 * CHUNK_BYTES + 7])
def test_a_body_that_ends_early_is_told_at_once_and_the_connection_is_left_as_it_was(monkeypatch, sent) -> None:
    monkeypatch.setattr(responses, "FAST_S", ALWAYS)

    def send(other: socket.socket) -> None:
        other.sendall(LARGE[:sent])
        other.shutdown(socket.SHUT_WR)

    with answered(send, len(LARGE)) as (answer, sock):
        with pytest.raises(Transient, match=f"ended after {sent} of {len(LARGE)} bytes"):
            answer.read_into(memoryview(bytearray(len(LARGE))), Stop())
        assert wakes_at(sock) == 1


def test_a_document_is_read_to_its_limit() -> None:
    document = b"<Error/>" + bytes(responses.MAX_TEXT_BYTES)
    with answered(lambda other: other.sendall(document), len(document)) as (answer, _):
        assert answer.text() == document[: responses.MAX_TEXT_BYTES]
        assert answer.status == 200
