"""`splitup-node assign`: the pieces of a folder as tasks of one node, each paid, the next when the last one stands."""

import argparse
import asyncio
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from cli.commands.running import existing, run, settings_of
from listener.chain.keyfile import parse_public_key
from requester.assign import Assigned, Assignment
from requester.chain_of_tasks import Terms, run_pieces
from requester.published import published_pieces
from requester.session import open_session
from requester.settings import RequesterSettings
from requester.watch import Completed
from shared.errors import ConfigurationError
from shared.ids import MAX_COUNT, Lamports


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Assign pieces to a node, one after the other: the next when the last one's outputs are checked."
    )
    parser.add_argument("folder", type=Path, help="what splitup-node publish published")
    parser.add_argument("--node", required=True, help="public key of the node (base58)")
    parser.add_argument(
        "--inputs", type=Path, required=True, help="safetensors file with the model's inputs by name"
    )
    parser.add_argument("--reward", type=int, required=True, help="lamports for each task")
    parser.add_argument("--time", type=int, default=300, help="seconds that each task may take (default: 300)")
    parser.add_argument("--outputs", type=Path, help="safetensors file to write the last piece's outputs to")
    return run(assign(parser.parse_args()))


class Printed:
    """One line for each step, with the ids that watch and cancel take."""

    def assigning(self, number: int, assignment: Assignment) -> None:
        pair = assignment.pair
        print(f"piece {number}: assigning as {pair.execution_id} {pair.task_id}", flush=True)

    def assigned(self, number: int, task: Assigned) -> None:
        pair = task.assignment.pair
        print(
            f"piece {number}: assigned as {pair.execution_id} {pair.task_id}, "
            f"{task.assignment.compute_units} compute units, signature {task.landed.signature}",
            flush=True,
        )

    def completed(self, number: int, task: Completed) -> None:
        uris = ", ".join(uri for uri, _ in task.outputs)
        print(
            f"piece {number}: completed in {task.ending.execution_time_ms} ms and paid {task.execution.reward:,} "
            f"lamports, signature {task.ending.signature}, outputs {uris}",
            flush=True,
        )


async def assign(args: argparse.Namespace) -> None:
    if not 0 <= args.reward <= MAX_COUNT or args.time < 1:
        raise ConfigurationError("--reward is lamports from 0 on, --time is seconds from 1 on")
    terms = Terms(parse_public_key(args.node, "--node"), Lamports(args.reward), args.time)
    inputs = await asyncio.to_thread(load_inputs, existing(args.inputs, "the file of inputs"))
    async with open_session(settings_of(RequesterSettings)) as session:
        pieces = published_pieces(args.folder, session.requester)
        result = await run_pieces(session, pieces, inputs, terms, Printed())
    if args.outputs:
        outputs = {name: tensor.contiguous() for name, tensor in result.outputs.items()}
        await asyncio.to_thread(safetensors.torch.save_file, outputs, args.outputs)
        print(f"outputs {', '.join(outputs)} written to {args.outputs}")


def load_inputs(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigurationError(f"{path} is not a safetensors file: {error}") from error
