"""`splitup-node resume`: a drained node takes work again."""

import argparse

from cli.commands.asking import ask
from cli.commands.running import run
from listener.journal.states import RequestName


def main() -> int:
    argparse.ArgumentParser(
        description="Take new work again after `splitup-node drain`; also in the middle of a drain."
    ).parse_args()
    return run(ask(RequestName.RESUME))
