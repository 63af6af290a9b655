"""`splitup-node rebuild-journal`: a new journal from the chain, where the old one is damaged or lost."""

import argparse
import random
from pathlib import Path

from cli.commands.running import run, settings_of
from listener.chain.completions import Completions
from listener.chain.endpoints import Endpoints
from listener.chain.idl import load_idl
from listener.chain.keyfile import load_keypair, parse_public_key
from listener.daemon import rpc_http
from listener.rebuild import Origin, rebuild_journal
from listener.settings import ListenerSettings
from program import IDL_PATH
from shared.clock import SystemClock


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Make a new journal from the chain, by the listener's settings. The old file is left as it is. "
        "Stop the listener a minute before, so that what it sent last is finalized, and start it with SPLITUP_JOURNAL "
        "set to the new file: what is assigned is taken up again, what was paid is never run again."
    )
    parser.add_argument("journal", type=Path, help="the new file")
    return run(rebuild(parser.parse_args().journal))


async def rebuild(path: Path) -> None:
    settings = settings_of(ListenerSettings)
    program = load_idl(settings.idl or IDL_PATH, parse_public_key(settings.program_id, "SPLITUP_PROGRAM_ID"))
    node = load_keypair(settings.keypair).pubkey()
    clock, rng = SystemClock(), random.Random()  # noqa: S311 # for backoff, nothing secret
    async with rpc_http() as http:
        endpoints = Endpoints.at(settings.rpc_url, http, settings.rpc_requests_per_s, clock, rng)
        found = await rebuild_journal(path, Origin(endpoints, program, node, settings.genesis_hash), clock, rng)
    tell(path, found)


def tell(path: Path, found: Completions) -> None:
    print(f"{path}: {len(found.pairs)} completed pairs, back to slot {found.oldest}")
    for key in sorted(found.without_requester):
        print(f"not found by whom it was assigned, so it is not in: {key}")
    if found.unread:
        print(f"{found.unread} transactions could not be read")
