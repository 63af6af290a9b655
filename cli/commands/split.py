"""`splitup-node split`: an author's model into pieces."""

import argparse
import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import torch

from cli.commands.running import run
from requester.published import save_pieces
from requester.split import split_model
from shared.errors import ConfigurationError

EPILOG = """MODEL is module:function of your own code, found in this folder or among what is installed. The function
returns the torch module, a tuple of example inputs, and the dynamic shapes as torch.export.export takes them (or None).
An example: examples.minilm:author"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Split a torch model into pieces.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="module:function, see below")
    parser.add_argument("folder", type=Path, help="where packages, weights and pieces.json go")
    cuts = parser.add_mutually_exclusive_group()
    cuts.add_argument("--pieces", type=int, default=1, help="how many, of about the same cost (default: 1)")
    cuts.add_argument("--cut", action="append", default=[], metavar="MODULE_PATH", help="cut after this module")
    return run(split(parser.parse_args()))


async def split(args: argparse.Namespace) -> None:
    pieces = await asyncio.to_thread(
        lambda: split_model(*authored(args.model), cut_points=args.cut, pieces=args.pieces)
    )
    save_pieces(args.folder, pieces)
    for number, piece in enumerate(pieces):
        weights = sum(tensor.nbytes for tensor in piece.weights.values())
        print(
            f"piece {number}: {piece.package_id}, {len(piece.graph.nodes)} nodes, graph {len(piece.package):,} bytes, "
            f"weights {weights:,} bytes; takes {', '.join(piece.activations)}; gives {', '.join(piece.outputs)}"
        )


def authored(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], object]:
    """What the author's function returns. Raises ConfigurationError where there is no such function."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{name} is not a function that can be imported: {error}") from error
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], torch.nn.Module):
        raise ConfigurationError(f"{name} should return (torch module, example inputs, dynamic shapes)")
    return made
