"""The command `splitup-node`. Each subcommand is imported only when it is called: no side brings the other along."""

import importlib
import sys
from typing import Final

COMMANDS: Final = {
    "listener": ("listener.__main__", "run the listener process (settings: docs/settings.md)"),
    "compute": ("compute.__main__", "run the compute process"),
    "status": ("cli.commands.status", "how this node is: intake, tasks, money, what waits and why"),
    "tasks": ("cli.commands.tasks", "list this node's tasks, the newest first"),
    "task": ("cli.commands.task", "all that is known of one task of this node"),
    "skip": ("cli.commands.skip", "stop one task of this node and hand it back"),
    "drain": ("cli.commands.drain", "finish what runs, hand back the rest, stop the listener"),
    "resume": ("cli.commands.resume", "take work again after a drain"),
    "rebuild-journal": ("cli.commands.rebuild_journal", "make a journal anew from the chain, in a new file"),
    "localnet": ("cli.commands.localnet", "run a local chain with the program, funded keys and storage"),
    "split": ("cli.commands.split", "split a torch model into pieces, each a model package with its weights"),
    "publish": ("cli.commands.publish", "put pieces where nodes find them"),
    "assign": ("cli.commands.assign", "assign pieces to a node, one after the other, and fetch the outputs"),
    "watch": ("cli.commands.watch", "wait for one task's end, check its outputs, reclaim what is due"),
    "cancel": ("cli.commands.cancel", "cancel one task, wait out the notice, take the reward back"),
    "deploy": ("cli.commands.deploy", "deploy the reference program"),
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(usage())
        return
    if name not in COMMANDS:
        sys.exit(f"splitup-node: there is no command {name!a}\n{usage()}")
    sys.argv[:2] = [f"splitup-node {name}"]
    sys.exit(importlib.import_module(COMMANDS[name][0]).main())


def usage() -> str:
    lines = [f"  {name:<17}{purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(["usage: splitup-node COMMAND [...]; splitup-node COMMAND --help", "", *lines])
