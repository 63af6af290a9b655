"""A requester at a local node: publishes tensors and a graph that adds them, assigns it, waits for its end."""

import asyncio
import base64
import hashlib
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import safetensors.torch
import torch
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from compute.storage.s3 import S3Storage
from compute.storage.store import Storage
from requester.publish import publish_package, publish_tensors
from shared.ids import Requester
from shared.uris import parse_object_uri, parse_prefix
from tests.docker.compose import Compose
from tests.program.chain import PROGRAM_ID
from tests.program.instructions import ASSIGNED, Assignment, Builder, Head
from tests.program.validator import Rpc
from tests.unit.graphs import as_bytes, document, node, ref, tensor

TENSORS = parse_prefix("s3://splitup/tensors")
OUTPUTS = "s3://splitup/outputs"
CONFIRMED = {"commitment": "confirmed", "encoding": "base64"}
DEADLINE_S = 120
REWARD = 2_000_000
"""Lamports."""
SUM = document(
    [tensor("a", ["n"]), tensor("b", ["n"])],
    [node("sum", "aten.add.Tensor", self=ref("a"), other=ref("b"))],
    [ref("sum")],
)


def key_in(file: Path) -> Keypair:
    return Keypair.from_json(file.read_text())


@dataclass(frozen=True)
class Ended:
    """An execution account that is no longer assigned."""

    head: Head
    output_uris: list[str]
    """Those that stand in the instruction data of the transaction that ended it."""


class LocalRequester:
    def __init__(self, compose: Compose) -> None:
        self._key = key_in(compose.secrets / "requester.json")
        self.node = key_in(compose.secrets / "node.json").pubkey()
        self.name = Requester(str(self._key.pubkey()))
        self.s3_url = f"http://{compose.address('s3', 7070)}"
        self._rpc = Rpc(int(compose.address("chain", 8899).rpartition(":")[2]))

    def storage(self) -> S3Storage:
        return S3Storage([TENSORS], endpoint_url=self.s3_url, region="us-east-1", path_style=True)

    async def publish_sum(self, storage: Storage, a: torch.Tensor, b: torch.Tensor) -> Assignment:
        """The assignment of a + b, with its tensors and package in storage."""
        model_id = await publish_package(storage, TENSORS, self.name, as_bytes(SUM))
        uri = await publish_tensors(storage, TENSORS, self.name, [a, b], is_weights=False)
        return Assignment(
            execution_id=str(uuid.uuid4()),
            task_id=f"sum-{uuid.uuid4().hex[:8]}",
            model_id=model_id,
            input_uris=(uri,),
            deadline=int(time.time()) + DEADLINE_S,
            compute_units=1,
            reward=REWARD,
        )

    def balance(self, key: Pubkey) -> int:
        """Lamports at `confirmed`."""
        return self._rpc("getBalance", str(key), CONFIRMED)["value"]

    def assign(self, assignment: Assignment) -> Builder:
        """Send the assignment to the node; refused on the chain, it raises RuntimeError."""
        pair = Builder(PROGRAM_ID, self._key.pubkey(), self.node, assignment.execution_id, assignment.task_id)
        blockhash = Hash.from_string(self._rpc("getLatestBlockhash", CONFIRMED)["value"]["blockhash"])
        message = Message([pair.assign_task(assignment)], self._key.pubkey())
        signed = bytes(Transaction([self._key], message, blockhash))
        self._rpc(
            "sendTransaction",
            base64.b64encode(signed).decode(),
            {"encoding": "base64", "preflightCommitment": "confirmed"},
        )
        return pair

    async def ended(self, pair: Builder) -> Ended:
        """Wait until the pair is no longer assigned."""
        give_up = time.monotonic() + DEADLINE_S
        while time.monotonic() < give_up:
            account = self._rpc("getAccountInfo", str(pair.address), CONFIRMED)["value"]
            if account:
                head = Head.read(base64.b64decode(account["data"][0]))
                if head.state != ASSIGNED:
                    return Ended(head, self._outputs(pair, self._last_transaction(pair.address)))
            await asyncio.sleep(0.5)
        raise TimeoutError(f"{pair.execution_id}/{pair.task_id} has not ended within {DEADLINE_S} s")

    def _outputs(self, pair: Builder, transaction: bytes) -> list[str]:
        """Each in the folder that the protocol gives this task's outputs, or the list stays empty."""
        folder = f"{OUTPUTS}/{self.name}/{pair.execution_id}/{pair.task_id}/".encode()
        return [
            found.decode() for found in re.findall(re.escape(folder) + rb"[0-9a-f]{64}\.safetensors", transaction)
        ]

    def _last_transaction(self, address: Pubkey) -> bytes:
        newest = self._rpc("getSignaturesForAddress", str(address), CONFIRMED)[0]
        assert newest["err"] is None
        found = self._rpc(
            "getTransaction", newest["signature"], {**CONFIRMED, "maxSupportedTransactionVersion": 0}
        )
        return base64.b64decode(found["transaction"][0])


async def stored_output(storage: Storage, text: str) -> torch.Tensor:
    """The tensor of an output's object, whose bytes are those that its name commits to."""
    uri = parse_object_uri(text)
    content = await storage.read_range(uri, 0, await storage.size(uri))
    assert PurePosixPath(uri.key).stem == hashlib.sha256(content).hexdigest()
    tensors = safetensors.torch.load(content)
    assert list(tensors) == ["0"]
    return tensors["0"]
