"""`splitup-node localnet`: a whole network on this machine, until Ctrl-C."""

import argparse
import asyncio
import shlex
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from cli.commands.running import run
from cli.localnet import LocalNetwork, local_network, running_node
from cli.localnet.node import node_env
from shared.errors import ConfigurationError


def main() -> int:
    parser = argparse.ArgumentParser(description="A local chain with the program, funded keys and storage.")
    parser.add_argument("--chain", choices=["auto", "validator", "surfpool"], default="auto")
    parser.add_argument("--storage", choices=["file", "s3"], default="file")
    parser.add_argument("--folder", type=Path, help="for keys, token, storage and logs; kept (default: temporary)")
    parser.add_argument("--nodes", type=int, default=1, help="how many nodes to run too (default: 1)")
    return run(localnet(parser.parse_args()))


async def localnet(args: argparse.Namespace) -> None:
    folder = args.folder.resolve() if args.folder else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(f"the folder {folder} is not empty: a local network starts from nothing")
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(local_network(chain=args.chain, storage=args.storage, folder=folder))
        await tell(net)
        for number in range(args.nodes):
            node = await stack.enter_async_context(running_node(net, f"node-{number + 1}"))
            print(f"{node.name:<10}{node.address}, listener {node.listener_url}, compute {node.compute_url}")
        print("Ctrl-C ends everything", flush=True)
        with suppress(asyncio.CancelledError):  # an interrupt is how it is meant to end
            await asyncio.Event().wait()


async def tell(net: LocalNetwork) -> None:
    """Print what runs where, and write the settings of a requester and of one more node as files to source."""
    await net.new_key("own-node")
    (net.folder / "own-node").mkdir()
    requester, own_node = net.folder / "requester.env", net.folder / "own-node.env"
    write_env(requester, net.requester_env())
    write_env(own_node, node_env(net, "own-node"))
    print(f"chain     {net.chain.name}: {net.rpc_url} {net.ws_url}")
    print(f"program   {net.program_id} (sBPF {net.program_version})")
    print(f"storage   {net.storage.name}")
    print(f"requester set -a; . {shlex.quote(str(requester))}    # then splitup-node split, publish, assign, …")
    print(
        f"own node  set -a; . {shlex.quote(str(own_node))}    # then splitup-node compute, splitup-node listener"
    )


def write_env(path: Path, env: Mapping[str, str]) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items()), encoding="utf-8")
