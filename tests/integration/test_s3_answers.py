"""S3 storage against answers that no well-behaved server gives on demand, from a scripted one."""

import asyncio
import base64
import hashlib
import os
import ssl
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from compute.safetensors_header import encode_header
from compute.specs import DType, TensorSpec
from compute.storage import response
from compute.storage.packages import Packages
from compute.storage.retry import RetryPolicy
from compute.storage.s3 import MIN_RANGE_BYTES, S3Storage
from compute.storage.store import NO_BOOK
from compute.storage.uploads import put_in_parts
from compute.tensors import load, read_header
from shared.backoff import Backoff
from shared.errors import InputInvalid, InputMissing, StorageUnavailable
from shared.uris import parse_object_uri, parse_prefix
from tests.certificate import self_signed
from tests.scripted_s3 import CONTENT, OBJECT, error, in_turn, ranged, scripted


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_never_followed(status):
    async with scripted(lambda _: error(500, "Elsewhere")) as (elsewhere, _):
        location = f"http://127.0.0.1:{elsewhere.port}/tensors/public/object"
        headers = {"Location": location, "x-amz-bucket-region": "eu-west-1"}
        async with scripted(lambda _: error(status, "PermanentRedirect", **headers)) as (script, storage):
            for attempt in (
                storage.read_range(OBJECT, 0, 1),
                storage.probe(),
                storage.put_new(OBJECT, [b"x"]),
            ):
                with pytest.raises(StorageUnavailable, match=str(status)):
                    await attempt
            assert len(script.requests) == 3
        assert elsewhere.requests == []


async def test_slow_down_and_server_errors_are_tried_again():
    faults = [error(503, "SlowDown"), error(500, "InternalError"), error(429, "TooMany"), (502, {}, b"<html>")]
    answers = [lambda _, fault=fault: fault for fault in faults]
    async with scripted(in_turn(*answers, ranged)) as (script, storage):
        storage._policy = RetryPolicy(patience_s=30.0)
        assert await storage.read_range(OBJECT, 3, 4) == CONTENT[3:7]
        assert len(script.requests) == 5


# urllib3 leaves a connection whose answer botocore could not parse to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_answer_cut_at_any_byte_is_asked_for_again():
    def answer(request):
        status, headers, body = ranged(request)
        return status, {"ETag": '"abc"', **headers}, body

    async with scripted(answer) as (script, storage):
        storage._policy = RetryPolicy(patience_s=30.0, backoff=Backoff(base_s=0.001, cap_s=0.001))
        whole = 160
        for cut in range(whole):
            script.cuts = [cut]
            start = await storage.read_start(OBJECT, 60)
            assert (start.data, start.size, start.version) == (CONTENT[:60], 100, '"abc"'), cut
        assert len(script.requests) == 2 * whole


async def test_a_server_that_ignores_ranges_serves_a_start_but_no_range():
    async with scripted(lambda _: (200, {}, CONTENT)) as (_, storage):
        start = await storage.read_start(OBJECT, 10)
        assert (start.data, start.size) == (CONTENT[:10], 100)
        with pytest.raises(StorageUnavailable, match="ignores Range"):
            await storage.read_range(OBJECT, 5, 10)


@pytest.mark.parametrize(
    "content_range", ["bytes 0-9/100", "bytes 0-14/100", "bytes 5-9/100", "bytes 5-14/*", "nonsense"]
)
async def test_a_range_other_than_the_one_asked_for_is_never_taken(content_range):
    answer = (206, {"Content-Range": content_range}, CONTENT[5:15])
    if content_range == "bytes 0-9/100":
        answer = (206, {"Content-Range": content_range}, CONTENT[:10])
    async with scripted(lambda _: answer) as (_, storage):
        with pytest.raises(StorageUnavailable, match="not what was asked for"):
            await storage.read_range(OBJECT, 5, 10)


@pytest.mark.parametrize("length", ["10", ""])
async def test_a_body_shorter_than_announced_is_never_taken(length):
    answer = (206, {"Content-Range": "bytes 5-14/100", "Content-Length": length}, CONTENT[5:14])
    async with scripted(lambda _: answer) as (_, storage):
        with pytest.raises(StorageUnavailable, match="after 9 of 10 bytes"):
            await storage.read_range(OBJECT, 5, 10)


@pytest.mark.parametrize("size", [100, 5 << 20])
async def test_a_bit_that_turned_on_the_way_is_read_again_where_the_name_is_a_hash(size):
    content = encode_header([("0", TensorSpec(DType.UINT8, (size,)))]) + bytes(size)
    uri = parse_object_uri(f"s3://tensors/public/{hashlib.sha256(content).hexdigest()}.safetensors")
    turned = content[:-1] + b"\1"
    bad = [0]  # so many of the next answers with the last byte have it wrong

    def answer(request):
        status, headers, body = ranged(request, content)
        is_last = headers["Content-Range"].endswith(f"-{len(content) - 1}/{len(content)}")
        if is_last and bad[0] > 0:
            bad[0] -= 1
            body = ranged(request, turned)[2]
        return status, headers, body

    async def read(storage):
        header = await read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=10)
        view = memoryview(bytearray(size))
        await load(storage, uri, header, header.entries, [view])
        return bytes(view)

    async with scripted(answer) as (_, storage):
        bad[0] = 1
        assert await read(storage) == bytes(size)
        bad[0] = 2
        with pytest.raises(InputInvalid, match="not the one in its name"):
            await read(storage)


async def test_a_bit_that_turned_on_the_way_of_a_package_is_read_again():
    wanted = hashlib.sha256(CONTENT).hexdigest()

    async def found(storage):
        stores = [parse_prefix("s3://tensors")]
        packages = Packages(storage, model_stores=stores, allowed_prefixes=[], catalogue={}, max_bytes=1000)
        return await packages.find(wanted, "requester")

    def turned(request):
        return ranged(request, CONTENT[:-1] + b"\1")

    async with scripted(in_turn(turned, ranged)) as (_, storage):
        assert await found(storage) == CONTENT
    async with scripted(turned) as (_, storage):
        with pytest.raises(InputMissing, match="skipped"):
            await found(storage)


async def test_a_server_that_gives_no_length_is_refused():
    async with scripted(lambda _: (200, {"Content-Length": ""}, CONTENT)) as (_, storage):
        for attempt in (storage.probe(), storage.read_start(OBJECT, 10)):
            with pytest.raises(StorageUnavailable, match=r"Content-Length|ignores Range"):
                await attempt


@pytest.mark.parametrize("refusal", [error(501, "NotImplemented"), error(400, "InvalidArgument")])
async def test_a_server_that_does_not_know_if_none_match_is_asked_by_head_first(refusal):
    there = False

    def answer(request):
        nonlocal there
        if "if-none-match" in request.headers:
            return refusal
        if request.method == "PUT":
            there = True
        return 200 if there else 404, {}, b""

    async with scripted(answer) as (script, storage):
        assert await storage.put_new(OBJECT, [b"x"]) is True
        assert await storage.put_new(OBJECT, [b"x"]) is False
        assert [request.method for request in script.requests] == ["PUT", "HEAD", "PUT", "HEAD"]


async def test_ranges_after_the_first_are_held_to_its_etag():
    content = bytes(5 * MIN_RANGE_BYTES // 2)

    def answer(request):
        if request.headers.get("if-match", '"one"') != '"one"':
            return error(412, "PreconditionFailed")
        status, headers, body = ranged(request, content)
        return status, {**headers, "ETag": '"one"'}, body

    async with scripted(answer) as (script, storage):
        await storage.read_into(OBJECT, 0, memoryview(bytearray(len(content))))
        assert [request.headers.get("if-match") for request in script.requests] == [None, '"one"', '"one"']
        with pytest.raises(InputInvalid, match="changed"):
            await storage.read_into(OBJECT, 0, memoryview(bytearray(len(content))), '"two"')


@pytest.mark.parametrize("later", ['"two"', ""])
async def test_a_range_of_another_etag_is_refused_where_the_server_passes_over_if_match(later):
    def answer(request):
        status, headers, body = ranged(request, bytes(5 * MIN_RANGE_BYTES // 2))
        return status, {**headers, "ETag": later if "if-match" in request.headers else '"one"'}, body

    async with scripted(answer) as (_, storage):
        buffer = bytearray(b"\1" * (5 * MIN_RANGE_BYTES // 2))
        with pytest.raises(InputInvalid, match="changed"):
            await storage.read_into(OBJECT, 0, memoryview(buffer))
        assert buffer.count(0) <= MIN_RANGE_BYTES, "nothing of another object was taken"


async def test_the_clock_is_corrected_once_by_requests_that_are_refused_at_the_same_time():
    servers_time = datetime.now(UTC) + timedelta(hours=2)

    def answer(request):
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(signed - servers_time) < timedelta(minutes=15):
            return ranged(request)
        return error(403, "RequestTimeTooSkewed", Date=format_datetime(servers_time, usegmt=True))

    async with scripted(answer) as (script, storage):
        script.waits_for = asyncio.Barrier(2)
        assert await asyncio.gather(*(storage.read_range(OBJECT, 0, 9) for _ in range(2))) == [CONTENT[:9]] * 2
        assert abs(storage._http.offset_s - 7200) < 120


@pytest.mark.parametrize(
    ("code", "requests", "message"),
    [
        ("InternalError", 2, None),
        ("SlowDown", 2, None),
        ("InvalidPart", 1, "200 InvalidPart"),
        ("AccessDenied", 1, "200 AccessDenied"),
        ("PreconditionFailed", 1, None),
    ],
)
async def test_an_error_in_the_body_of_a_200_is_judged_by_its_code(code, requests, message):
    joined = (200, {}, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
    completions = []

    def answer(request):
        if request.method == "HEAD":
            return 404, {}, b""
        if request.path.endswith("?uploads="):
            return 200, {}, b"<UploadId>1</UploadId>"
        if request.method == "POST":
            completions.append(request)
            return joined if len(completions) > 1 else (200, {}, error(200, code)[2])
        return 200, {"ETag": '"part"'}, b""

    async with scripted(answer) as (_, storage):
        putting = put_in_parts(storage._uploads, storage._attempts, OBJECT, [b"x"], NO_BOOK)
        if message is None:
            assert await putting is (code != "PreconditionFailed")
        else:
            with pytest.raises(StorageUnavailable, match=message):
                await putting
        assert len(completions) == requests


async def test_an_answer_meant_for_a_terminal_is_shown_escaped():
    async with scripted(lambda _: error(400, "\x9b2J&lt;evil")) as (_, storage):
        with pytest.raises(StorageUnavailable) as raised:
            await storage.read_range(OBJECT, 0, 1)
        assert str(raised.value).isprintable()


async def test_a_delete_is_asked_for_once_and_what_is_not_there_is_deleted():
    async with scripted(in_turn(lambda _: error(503, "SlowDown"), lambda _: error(404, "NoSuchKey"))) as (
        script,
        storage,
    ):
        with pytest.raises(StorageUnavailable, match="after 1 attempts"):
            await storage.delete(OBJECT)
        await storage.delete(OBJECT)
        assert [request.method for request in script.requests] == ["DELETE", "DELETE"]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("crc32", base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()),
        ("sha256", base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()),
    ],
)
async def test_a_checksum_that_the_server_gives_for_the_whole_object_is_compared(name, right):
    def answer(turned):
        def answered(request):
            status, headers, body = ranged(request, CONTENT[:-1] + b"\0" if turned else CONTENT)
            return status, {**headers, f"x-amz-checksum-{name}": right}, body

        return answered

    async with scripted(in_turn(answer(True), answer(False))) as (script, storage):
        assert (await storage.read_start(OBJECT, 200)).data == CONTENT
        assert len(script.requests) == 2
    async with scripted(answer(True)) as (_, storage):
        with pytest.raises(StorageUnavailable, match=f"the body has the {name}"):
            await storage.read_start(OBJECT, 200)


async def test_a_checksum_of_parts_or_of_a_piece_says_nothing_about_the_bytes_that_were_read():
    def answer(request):
        status, headers, body = ranged(request)
        return status, {**headers, "x-amz-checksum-crc32": "AAAAAA==-3", "x-amz-checksum-sha256": "x"}, body

    async with scripted(answer) as (_, storage):
        assert await storage.read_range(OBJECT, 0, 10) == CONTENT[:10]

    def composite(request):
        status, headers, body = ranged(request)
        return status, {**headers, "x-amz-checksum-crc32": "A", "x-amz-checksum-type": "COMPOSITE"}, body

    async with scripted(composite) as (_, storage):
        assert (await storage.read_start(OBJECT, 200)).data == CONTENT


async def test_a_body_is_signed_by_the_hash_that_its_name_promises_or_by_its_own():
    named = parse_object_uri(f"s3://tensors/public/{hashlib.sha256(b'other').hexdigest()}.safetensors")
    async with scripted(lambda _: (200, {}, b"")) as (script, storage):
        await storage.put_new(OBJECT, [b"ab", memoryview(b"c"), b""])
        await storage.put_new(named, [b"abc"])
        hashes = [request.headers["x-amz-content-sha256"] for request in script.requests]
        assert hashes == [hashlib.sha256(b"abc").hexdigest(), hashlib.sha256(b"other").hexdigest()]
        assert script.bodies == [b"abc", b"abc"]


async def test_requests_go_over_one_connection_and_one_that_was_dropped_is_replaced():
    async with scripted(ranged) as (script, storage):
        script.keeps_open = True
        for _ in range(5):
            assert await storage.read_range(OBJECT, 3, 4) == CONTENT[3:7]
        assert len(script.connections) == 1
        dropped = list(script.connections)
        for connection in dropped:
            connection.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert await storage.read_range(OBJECT, 3, 4) == CONTENT[3:7]
        # The dead one cost no failed request.
        assert (len(script.connections), len(script.requests)) == (2, 6)


async def test_a_refusal_before_the_body_was_read_is_told_as_what_it_is():
    async with scripted(lambda _: error(403, "AccessDenied")) as (script, storage):
        script.reads_bodies = False
        with pytest.raises(StorageUnavailable, match="403 AccessDenied"):
            await storage.put_new(OBJECT, [bytes(8 << 20)])


async def test_an_endless_error_document_is_not_read_to_its_end():
    async with scripted(lambda _: (400, {"Content-Length": str(1 << 40)}, b"<" * (8 << 20))) as (_, storage):
        async with asyncio.timeout(60):
            with pytest.raises(StorageUnavailable, match="400"):
                await storage.read_range(OBJECT, 0, 1)


async def test_over_tls_the_server_must_be_who_it_says_and_bodies_go_unsigned(tmp_path, monkeypatch):
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    content = os.urandom(8 << 20)
    monkeypatch.setattr(response, "FAST_S", 1e9)
    async with scripted(lambda request: ranged(request, content), context) as (script, storage):
        with pytest.raises(StorageUnavailable, match="AWS_CA_BUNDLE"):
            await storage.read_range(OBJECT, 0, 1)
        assert script.requests == []
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))

    def answer(request):
        return (200, {}, b"") if request.method == "PUT" else ranged(request, content)

    async with scripted(answer, context) as (script, storage):
        script.cuts = [5 << 20]  # and then the whole answer
        assert await storage.read_range(OBJECT, 5, 7 << 20) == content[5 : 5 + (7 << 20)]
        assert len(script.requests) == 2
        assert await storage.put_new(OBJECT, [content]) is True
        assert script.bodies[-1] == content
        assert script.requests[-1].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


async def test_a_read_over_tls_that_is_cancelled_ends_at_once(tmp_path, monkeypatch):
    certificate, key = self_signed(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    def half(request):
        status, headers, body = ranged(request, bytes(1000))
        return status, {**headers, "Content-Length": str(len(body))}, body[:500]

    async with scripted(half, context) as (script, storage):
        script.keeps_open = True
        reading = asyncio.create_task(storage.read_range(OBJECT, 0, 1000))
        await asyncio.sleep(1.0)
        reading.cancel()
        async with asyncio.timeout(10.0):
            with pytest.raises(asyncio.CancelledError):
                await reading


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:9000", "http://127.0.0.1:x", "https://"])
async def test_an_endpoint_that_is_no_url_is_told_as_unavailable_storage(url):
    storage = S3Storage(
        [parse_prefix("s3://tensors")],
        endpoint_url=url,
        region="us-east-1",
        path_style=True,
        policy=RetryPolicy(patience_s=0.0),
    )
    attempts = [lambda: storage.probe(), lambda: storage.put_new(OBJECT, [bytes(65 << 20)])]
    for attempt in attempts:
        with pytest.raises(StorageUnavailable):
            await attempt()
    storage.close()


@pytest.mark.parametrize(
    "date", ["Thu, 01 Jan 1970 00:00:00 +99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
async def test_a_date_that_no_clock_shows_is_an_answer_like_any_other(date):
    async with scripted(lambda _: error(403, "AccessDenied", Date=date)) as (_, storage):
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="403"):
                await storage.probe()
            await asyncio.sleep(1.1)  # by when a clock that was at its end is beyond it
