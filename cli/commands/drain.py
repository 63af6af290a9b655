"""`splitup-node drain`: the node works off what runs, hands back the rest, and stops."""

import argparse

from cli.commands.asking import ask
from cli.commands.running import run
from listener.journal.states import RequestName


def main() -> int:
    argparse.ArgumentParser(
        description="Take nothing new, finish and submit what runs, hand back what has not begun (task_failed with the "
        "reason `draining`), then stop the listener. Started again it stays idle until `splitup-node resume`. "
        "`splitup-node status` shows how far it is."
    ).parse_args()
    return run(ask(RequestName.DRAIN))
