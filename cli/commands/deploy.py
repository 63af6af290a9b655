"""`splitup-node deploy`: the reference program onto a cluster, in the build that it takes."""

import argparse
from pathlib import Path

import httpx

from cli.commands.running import run
from cli.localnet.deploy import deploy
from listener.chain.keyfile import load_keypair
from listener.chain.rpc import Rpc
from shared.http import NO_PROXY_FOR_LOOPBACK

TIMEOUT_S = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Deploy the reference program.")
    parser.add_argument("--rpc-url", required=True)
    parser.add_argument("--payer", type=Path, required=True, help="key file that pays and may upgrade it later")
    parser.add_argument("--program", type=Path, required=True, help="key file of the program's address")
    return run(deploy_program(parser.parse_args()))


async def deploy_program(args: argparse.Namespace) -> None:
    payer, program = load_keypair(args.payer), load_keypair(args.program)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, mounts=NO_PROXY_FOR_LOOPBACK) as http:
        version = await deploy(Rpc(args.rpc_url, http), payer, program)
    print(f"deployed the sBPF {version} build at {program.pubkey()}")
