"""What the lines on a real validator share: transactions sent by the hundred, and a listener that is ready."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import Transaction

from bench.listener.process import Counted, counted
from cli.localnet import LocalNetwork
from cli.localnet.node import READY_S, node_env
from cli.localnet.ports import free_ports
from listener.chain.rpc import MAX_STATUSES, Rpc
from requester.sending import signed
from shared.ids import TaskKey, UnixSeconds
from tests.e2e.desk import new_pair
from tests.program.instructions import Assignment, Builder

AT_ONCE: Final = 16
LOOK_S: Final = 0.1
AGAIN_S: Final = 2.0
"""After so long what is not confirmed is sent again."""
PATIENCE_S: Final = 120.0
DEADLINE_S: Final = 3_600
REWARD: Final = 2_000_000


async def land(rpc: Rpc, key: Keypair, instructions: Sequence[Instruction]) -> None:
    """Each as a transaction of its own, until all are confirmed. Raises TimeoutError."""
    blockhash = (await rpc.get_latest_blockhash()).blockhash
    raws = [signed([one], [key], blockhash) for one in instructions]
    waiting = {Transaction.from_bytes(raw).signatures[0]: raw for raw in raws}
    async with asyncio.timeout(PATIENCE_S):
        while waiting:
            await _send(rpc, list(waiting.values()))
            await _look_for(rpc, waiting)


async def _send(rpc: Rpc, raws: list[bytes]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def send(raw: bytes) -> None:
        async with places:
            await rpc.send_transaction(raw, skip_preflight=True)

    await asyncio.gather(*map(send, raws))


async def _look_for(rpc: Rpc, waiting: dict[Signature, bytes]) -> None:
    """Take out of `waiting` what is confirmed, for a while."""
    end = asyncio.get_running_loop().time() + AGAIN_S
    while waiting and asyncio.get_running_loop().time() < end:
        names = list(waiting)
        for start in range(0, len(names), MAX_STATUSES):
            part = names[start : start + MAX_STATUSES]
            answer = await rpc.get_signature_statuses(part)
            for name, status in zip(part, answer.statuses, strict=True):
                if status is not None and status.confirmation_status != "processed":
                    assert status.err is None, status
                    del waiting[name]
        await asyncio.sleep(LOOK_S)


async def assign(net: LocalNetwork, node: Pubkey, count: int, terms: Assignment | None = None) -> list[TaskKey]:
    """So many tasks for the node, each confirmed when this returns."""
    pairs = [new_pair() for _ in range(count)]
    deadline = UnixSeconds(await net.rpc.get_clock() + DEADLINE_S)
    await land(net.rpc, net.requester, [assignment(net, node, pair, deadline, terms) for pair in pairs])
    return pairs


def builder(net: LocalNetwork, node: Pubkey, pair: TaskKey) -> Builder:
    return Builder(net.program_id, net.requester.pubkey(), node, pair.execution_id, pair.task_id)


def assignment(
    net: LocalNetwork, node: Pubkey, pair: TaskKey, deadline: UnixSeconds, terms: Assignment | None = None
) -> Instruction:
    """Of something that a scripted compute says it did, unless the terms name a package and inputs."""
    given = terms or Assignment(input_uris=("file:///tensors/public/x.safetensors",))
    asked = Assignment(
        pair.execution_id, pair.task_id, given.model_id, given.input_uris, 1, deadline, 1_000, REWARD
    )
    return builder(net, node, pair).assign_task(asked)


@asynccontextmanager
async def listener_on(
    net: LocalNetwork, name: str, compute_url: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Counted, Keypair]]:
    """A listener with a funded key of its own, once it is ready."""
    key = await net.new_key(name)
    folder = net.folder / name
    folder.mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{free_ports(1)}"
    env = {
        **node_env(net, name),
        "SPLITUP_COMPUTE_URL": compute_url,
        "SPLITUP_LISTENER_PORT": url.rpartition(":")[2],
        **(settings or {}),
    }
    async with counted("listener", folder, env) as process:
        await ready(process, net, url)
        yield process, key


async def ready(process: Counted, net: LocalNetwork, url: str) -> None:
    headers = {"Authorization": f"Bearer {net.token_file.read_text(encoding='ascii')}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=10.0) as http:

        async def answers_ready() -> bool:
            try:
                return (await http.get(f"{url}/ready")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        await process.child.until(answers_ready, "it is not ready", READY_S)
