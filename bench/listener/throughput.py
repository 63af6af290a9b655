"""How many tasks a second go from assignment to payment, what each costs this machine, and what the chain allows.

A graph of one addition, both processes and a real validator on this machine. The chain's own limit is what a bare
sender reaches with the same two transactions for each task, beside nobody.
"""

import asyncio
from typing import Final

from solders.keypair import Keypair

from bench.lines import Goal, Line
from bench.listener.on_chain import (
    DEADLINE_S,
    PATIENCE_S,
    REWARD,
    assign,
    assignment,
    builder,
    land,
    listener_on,
    ready,
)
from bench.listener.process import Counted, counted
from bench.machine import cpu_s, machine
from cli.localnet import LocalNetwork
from cli.localnet.node import node_env
from cli.localnet.ports import free_ports
from cli.localnet.requester import requester_session
from listener.chain.accounts import list_live
from listener.chain.idl import load_idl
from program import IDL_PATH
from shared.ids import UnixSeconds
from tests.e2e.desk import Desk, new_pair
from tests.program.instructions import Assignment

TASKS: Final = 400
AIM_PER_S: Final = 100.0
MOST_FEES: Final = 50_000
"""Lamports of one submission, far below the reward."""
SETTINGS: Final = {
    "SPLITUP_RPC_REQUESTS_PER_S": "10000",
    "SPLITUP_MAX_TASKS": "10000",
    "SPLITUP_MAX_IN_WORK": "16",
    "SPLITUP_MAX_RUNNING": "4",
    "SPLITUP_THREADS": "1",
}


async def measure(net: LocalNetwork, *, is_tiny: bool) -> list[Line]:
    count = 5 if is_tiny else TASKS
    chain_per_s = await _chain_alone(net, count)
    name = "throughput"
    (net.folder / name).mkdir()
    compute_url = f"http://127.0.0.1:{free_ports(1)}"
    env = {**node_env(net, name), "SPLITUP_COMPUTE_PORT": compute_url.rpartition(":")[2], **SETTINGS}
    async with counted("compute", net.folder / name, env) as compute:
        await ready(compute, net, compute_url)
        async with listener_on(net, name, compute_url, SETTINGS) as (listener, key):
            terms = await _terms(net, key)
            await assign(net, key.pubkey(), 2, terms)
            await _all_paid(net, key)  # now compute has the package in its cache
            processes = (listener, compute)
            before = [_used(process) for process in processes]
            begun_at = asyncio.get_running_loop().time()
            balance = await net.rpc.get_balance(key.pubkey())
            await assign(net, key.pubkey(), count, terms)
            await _all_paid(net, key)
            took_s = asyncio.get_running_loop().time() - begun_at
            after = [_used(process) for process in processes]
            earned = await net.rpc.get_balance(key.pubkey()) - balance
            assert earned > count * (REWARD - MOST_FEES), f"{earned} lamports for {count} tasks"
    used = [(cpu_s / count * 1000, fsyncs / count) for cpu_s, fsyncs in map(_difference, before, after)]
    (listener_ms, listener_fsyncs), (compute_ms, compute_fsyncs) = used
    limit = (
        f"The bare sender reached {chain_per_s:.3g} tasks a second; a task took {listener_ms:.3g} ms of CPU in the "
        f"listener and {compute_ms:.3g} ms in compute, on cores that the validator shares."
    )
    return [
        Line(
            "tasks from assignment to paid",
            f"1/s, {machine()}",
            count / took_s,
            bare=chain_per_s,
            goal=Goal("ours", ">=", min(AIM_PER_S, chain_per_s)),
            limit=limit,
        ),
        Line("CPU of the listener per task", f"ms, {machine()}", listener_ms),
        Line("CPU of compute per task", f"ms, {machine()}", compute_ms),
        Line("fsyncs of the listener per task", "fsyncs", listener_fsyncs),
        Line("fsyncs of compute per task", "fsyncs", compute_fsyncs),
    ]


def _used(process: Counted) -> tuple[float, int]:
    """CPU seconds and fsyncs so far."""
    return cpu_s(process.pid), process.fsyncs()


def _difference(before: tuple[float, int], after: tuple[float, int]) -> tuple[float, int]:
    return after[0] - before[0], after[1] - before[1]


async def _terms(net: LocalNetwork, key: Keypair) -> Assignment:
    """A graph of one addition, and what it adds, in the network's storage."""
    async with requester_session(net) as session:
        given = await Desk(session, net.requester).assignment(key.pubkey())
    return Assignment(model_id=given.model_id, input_uris=given.input_uris)


async def _all_paid(net: LocalNetwork, key: Keypair) -> None:
    """Until no account waits for this node any more."""
    program = load_idl(IDL_PATH, net.program_id)
    async with asyncio.timeout(PATIENCE_S):
        while await list_live(net.rpc, program, key.pubkey()):  # noqa: ASYNC110 # the chain is asked
            await asyncio.sleep(0.1)


async def _chain_alone(net: LocalNetwork, count: int) -> float:
    """Tasks a second where nobody computes: each assigned and completed by a bare sender, both as fast as it can."""
    key = await net.new_key("bare-node")
    loop = asyncio.get_running_loop()
    pairs = [new_pair() for _ in range(count)]
    deadline = UnixSeconds(await net.rpc.get_clock() + DEADLINE_S)
    begun_at = loop.time()
    await land(net.rpc, net.requester, [assignment(net, key.pubkey(), pair, deadline) for pair in pairs])
    assigned_s = loop.time() - begun_at
    builders = [builder(net, key.pubkey(), pair) for pair in pairs]
    program = load_idl(IDL_PATH, net.program_id)
    attempts = {address: head.attempt for address, head in await list_live(net.rpc, program, key.pubkey())}
    outputs = ("file:///outputs/x.safetensors",)
    completions = [one.task_completed(attempts[one.address], outputs) for one in builders]
    begun_at = loop.time()
    await land(net.rpc, key, completions)
    return count / (assigned_s + loop.time() - begun_at)
