"""`splitup-node skip`: one task handed back."""

import argparse

from cli.commands.asking import ask, opened
from cli.commands.naming import ID_HELP, found_pair
from cli.commands.running import run
from listener.journal.states import RequestName


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Stop a task that is not signed yet and hand it back to its requester (task_failed with the reason "
        "`skipped`). Exits 1 where the listener refuses. While the listener is down it is done at its next start."
    )
    parser.add_argument("id", help=ID_HELP)
    return run(skip(parser.parse_args()))


async def skip(args: argparse.Namespace) -> bool:
    with opened() as journal:
        pair = await found_pair(journal, args.id)
    print(pair)
    return await ask(RequestName.SKIP, str(pair))
