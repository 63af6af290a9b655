"""What strangers may send to a real compute process: refused with its reason, nothing opened or run."""

import hashlib
import io
import json
import os
import pickle
import struct
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from compute.safetensors_header import encode_header
from tests.integration.compute_process import FORMAT, REQUESTER, ComputeProcess, compute_process
from tests.integration.compute_tasks import ADD, add_task, call, chain_of_products, floats, ref, request, tensor

pytestmark = pytest.mark.timeout(300)

BUCKET = "tensors"
MIB = 1 << 20
GROWTH_BYTES = 200 * MIB
"""None of these needs more than a header of 1 MiB as text and as objects."""


class Bucket(HTTPServer):
    """An S3 endpoint that holds nothing and remembers what it was asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Nothing)


class _Nothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Bucket)
        self.server.paths.append(self.path)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_PUT = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with Bucket() as made:
        serving = threading.Thread(target=made.serve_forever)
        serving.start()
        yield made
        made.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def compute(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeProcess]:
    folder = tmp_path_factory.mktemp("compute")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "k")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        prefixes = f"file://{folder}/tensors,s3://{BUCKET}/in"
        url = f"http://127.0.0.1:{bucket.server_port}"
        with compute_process(folder, allowed_prefixes=prefixes, s3_endpoint_url=url) as running:
            yield running


def resident_bytes(compute: ComputeProcess) -> int:
    assert compute.process is not None
    pages = int(Path(f"/proc/{compute.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fails_as(compute: ComputeProcess, task: dict[str, object], reason: str, words: str) -> None:
    before = resident_bytes(compute)
    assert compute.post(task).status_code == 202
    status = compute.ended(task)
    message = status["result"]["errorMessage"]
    assert (status["stage"], status["reason"]) == ("failed", reason), message
    assert words in message
    assert message.isprintable() and len(message) < 2_000
    assert resident_bytes(compute) - before < GROWTH_BYTES, "it was refused before its memory was taken"


# ---- tensors ----


def framed(header: str | bytes, data: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: str = "[2]", offsets: str = "[0,8]") -> str:
    return f'{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}'


MANY = json.dumps({str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(200_000)})
TENSORS = {
    "overlap": (framed(f'{{"0":{entry()},"1":{entry(offsets="[4,12]")}}}', bytes(12)), "InputInvalid", ""),
    "a hole": (framed(f'{{"0":{entry(offsets="[8,16]")}}}', bytes(16)), "InputInvalid", ""),
    "duplicate keys": (framed(f'{{"0":{entry()},"0":{entry()}}}', bytes(8)), "InputInvalid", "twice"),
    "2^40 elements": (framed(f'{{"0":{entry(shape="[1099511627776]")}}}', bytes(8)), "TooLarge", "2^40"),
    "200,000 tensors": (framed(MANY), "TooLarge", "at most 1048576"),
    "NaN": (framed(f'{{"0":{entry(shape="[NaN]")}}}', bytes(8)), "InputInvalid", "NaN"),
    "Infinity": (framed(f'{{"0":{entry(shape="[Infinity]")}}}', bytes(8)), "InputInvalid", "Infinity"),
    "nested": (framed('{"0":' * 50_000 + "1" + "}" * 50_000), "InputInvalid", "not valid JSON"),
    "an escape sequence": (framed(f'{{"\\u001b[2J":{entry()}}}', bytes(8)), "InputInvalid", "cannot be printed"),
    "a pickle": (pickle.dumps(["tensors"]), "TooLarge", ""),
    "nothing": (b"", "InputInvalid", "too few"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_hostile_tensor_is_refused_with_the_reason(compute: ComputeProcess, name: str) -> None:
    content, reason, words = TENSORS[name]
    path = compute.tensors / REQUESTER / "hostile.safetensors"
    path.write_bytes(content)
    task = request(compute.put_package(ADD), [f"file://{path}", f"file://{path}"])
    fails_as(compute, task, reason, words)


def test_a_header_of_100_mb_is_not_read(compute: ComputeProcess) -> None:
    path = compute.tensors / REQUESTER / "long.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100 * MIB))
        file.truncate(101 * MIB)
    task = request(compute.put_package(ADD), [f"file://{path}", f"file://{path}"])
    fails_as(compute, task, "TooLarge", "104857600 bytes")


def test_a_tensor_larger_than_the_node_takes_is_refused_at_its_header(compute: ComputeProcess) -> None:
    path = compute.tensors / REQUESTER / "large.safetensors"
    spec = floats(1 << 33)
    with path.open("wb") as file:
        header = encode_header([("0", spec)])
        file.write(header)
        file.truncate(len(header) + spec.nbytes)  # sparse: 32 GiB that nobody wrote
    try:
        task = request(compute.put_package(ADD), [f"file://{path}", f"file://{path}"])
        fails_as(compute, task, "TooLarge", "at most")
    finally:
        path.unlink()


# ---- packages ----


def zip_bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph.json", bytes(64 * MIB))
    return packed.getvalue()


def graph(*nodes: dict[str, object]) -> bytes:
    inputs, outputs = [tensor("x", ["n"]), tensor("y", ["n"])], [ref(str(nodes[-1]["name"]))]
    return json.dumps(FORMAT | {"inputs": inputs, "nodes": list(nodes), "outputs": outputs}).encode()


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/a-package-was-executed",)


BOMB = graph(
    call("a", "aten.unsqueeze.default", self=ref("x"), dim=1),
    call("b", "aten.expand.default", self=ref("a"), size=[3, 1 << 40]),
    call("c", "aten.add.Tensor", self=ref("b"), other=ref("b")),
)
PACKAGES = {
    "Python code": (b"import os\nos.system('id')\n", "GraphInvalid", ""),
    "a pickle with code": (pickle.dumps(_Code()), "GraphInvalid", ""),
    "a zip bomb": (zip_bomb(), "GraphInvalid", ""),
    "an unknown operator": (graph(call("a", "os.system", self=ref("x"))), "OperatorNotAllowed", "os.system"),
    "an operator that loads a file": (
        graph(call("a", "aten.from_file.default")),
        "OperatorNotAllowed",
        "from_file",
    ),
    "an escape sequence": (graph(call("a", "\x1b[2J\x07", self=ref("x"))), "OperatorNotAllowed", "x1b"),
    "a memory bomb": (BOMB, "TooLarge", ""),
    "nested": (b"[" * 100_000, "GraphInvalid", "nested"),
    "NaN": (b'{"version": NaN}', "GraphInvalid", "NaN"),
    "more nodes than allowed": (json.dumps(FORMAT | chain_of_products(20_001)).encode(), "TooLarge", ""),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_hostile_package_is_refused_with_the_reason(compute: ComputeProcess, name: str) -> None:
    content, reason, words = PACKAGES[name]
    model_id = hashlib.sha256(content).hexdigest()
    (compute.tensors / REQUESTER / f"{model_id}.json").write_bytes(content)
    task = add_task(compute) | {"modelId": model_id}
    if len(content) > MIB:  # it is not even read: such a package counts as not there
        reason, words = "InputMissing", "skipped"
    fails_as(compute, task, reason, words)
    assert not Path("/tmp/a-package-was-executed").exists()


# ---- URIs ----


def asked(bucket: Bucket) -> list[str]:
    """Besides the node's own probes."""
    return [path for path in bucket.paths if not path.endswith("/probe")]


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://elsewhere/in/{REQUESTER}/x",
        f"s3://{BUCKET}/other/{REQUESTER}/x",
        f"s3://{BUCKET}/in/4Nd1mYQzvgV8Vr3Z3nYb7pD6T8K2jqB2eqwY3xgWqV5Q/x",
        "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/in/x",
        f"s3://{BUCKET}/in/{REQUESTER}/../public/x",
        f"s3://{BUCKET}/in/{REQUESTER}/%2e%2e/public/x",
        f"s3://{BUCKET}@host/in/{REQUESTER}/x",
        f"s3://{BUCKET}/in/{REQUESTER}/x\x1b[2J",
        "file:///etc/passwd",
        "file:///proc/self/environ",
        "http://169.254.169.254/latest/meta-data/",
        "https://example.org/x",
    ],
)
def test_a_hostile_uri_is_refused_before_anything_is_asked_for(
    compute: ComputeProcess, bucket: Bucket, uri: str
) -> None:
    task, before = add_task(compute), asked(bucket)
    answer = compute.post(task | {"inputUris": [uri, task["inputUris"][1]]})
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"].startswith("inputUris")
    assert answer.text.isascii() and answer.text.isprintable()
    assert asked(bucket) == before


def test_a_link_out_of_a_requesters_folder_leads_nowhere(compute: ComputeProcess) -> None:
    link = compute.tensors / REQUESTER / "link.safetensors"
    link.symlink_to("/etc/passwd")
    task = add_task(compute)
    task |= {"inputUris": [f"file://{link}", *task["inputUris"][1:]]}
    fails_as(compute, task, "InputMissing", "not a plain file")


# ---- afterwards ----


def test_after_all_that_the_node_works_and_its_log_is_plain_text(compute: ComputeProcess) -> None:
    task = add_task(compute)
    compute.post(task)
    assert compute.ended(task)["stage"] == "done"
    for line in compute.log().splitlines():
        assert line.isascii() and line.isprintable(), ascii(line)
        json.loads(line)
