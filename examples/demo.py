"""`make demo`: a sentence model in three tasks on a local chain, each computed by a node and paid.

Starts the chain, a node and its storage, and stops them again. Exit status 0: all tasks were paid and the result
is the unsplit model's.
"""

import asyncio
import os
import sys
import time
from dataclasses import dataclass

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported: all it needs is installed
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from cli.commands.running import run
from cli.localnet import LocalNetwork, RunningNode, local_network, running_node
from cli.localnet.requester import requester_session
from cli.localnet.storage import StorageKind
from examples.report import print_similarities, print_tasks
from examples.stages import TaskView, live_view
from requester.chain_of_tasks import ChainResult, Terms, run_pieces
from requester.published import publish_piece
from requester.session import Session
from requester.split import Piece, split_model
from shared.ids import Lamports

REWARD = Lamports(2_000_000)
TASK_TIME_S = 600
"""Far enough that no submission is pressing, which would bid its whole share of the reward."""
MAX_DIFFERENCE = 1e-5
SENTENCES = (
    "A man is playing a guitar on a stage.",
    "Somebody performs music in front of an audience.",
    "The cat sleeps on the sofa.",
    "A kitten is taking a nap on the couch.",
    "Shares fell on Monday after the report.",
)


@dataclass(frozen=True)
class Prepared:
    """The pieces, the inputs by name, and what the unsplit model makes of them: float32 [sentences, 384]."""

    pieces: list[Piece]
    inputs: dict[str, torch.Tensor]
    expected: torch.Tensor


def prepare() -> Prepared:
    from examples import minilm  # noqa: PLC0415 # transformers takes seconds, in which the chain starts

    model = minilm.load()
    input_ids, attention_mask = minilm.tokenize(SENTENCES)
    with torch.inference_mode():
        expected = model(input_ids, attention_mask)
    pieces = split_model(model, minilm.EXAMPLE_INPUTS, minilm.DYNAMIC_SHAPES, cut_points=minilm.CUT_POINTS)
    return Prepared(pieces, {"input_ids": input_ids, "attention_mask": attention_mask}, expected)


def say(what: str, text: str) -> None:
    print(f"{what:<9}{text}", flush=True)


async def demo(storage: StorageKind) -> bool:
    """Whether the result is the unsplit model's. Raises SplitUpError."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        preparing = group.create_task(asyncio.to_thread(prepare))
        async with local_network(storage=storage) as net:
            os.environ.update(net.storage.env)
            say(
                "chain", f"{net.chain.name}; the program {net.program_id} is deployed (sBPF {net.program_version})"
            )
            say("storage", net.storage.name)
            async with running_node(net) as node:
                say("node", f"{node.address}: listener and compute are ready")
                prepared = await preparing
                say_pieces(prepared.pieces)
                async with requester_session(net) as session:
                    same = await run_tasks(net, node, session, prepared)
    say("stopped", f"node, storage and chain; {time.monotonic() - started:.1f} s in all")
    return same


def say_pieces(pieces: list[Piece]) -> None:
    graphs = sum(len(piece.package) for piece in pieces)
    weights = sum(tensor.nbytes for piece in pieces for tensor in piece.weights.values())
    say("model", f"all-MiniLM-L6-v2 in {len(pieces)} pieces: graphs {graphs:,} bytes, weights {weights:,} bytes")


async def run_tasks(net: LocalNetwork, node: RunningNode, session: Session, prepared: Prepared) -> bool:
    prefix, requester = session.publish_prefix, session.requester
    pieces = [await publish_piece(session.storage, prefix, requester, piece) for piece in prepared.pieces]
    before = await net.rpc.get_balance(node.address)
    say("tasks", f"each with a reward of {REWARD:,} lamports, the next assigned when the last one's outputs stand")
    async with live_view(node, len(pieces)) as live:
        terms = Terms(node.address, REWARD, TASK_TIME_S)
        result = await run_pieces(session, pieces, prepared.inputs, terms, live)
    earned = await net.rpc.get_balance(node.address) - before
    return report(live.tasks, earned, result, prepared)


def report(tasks: list[TaskView], earned: int, result: ChainResult, prepared: Prepared) -> bool:
    (vectors,) = result.outputs.values()
    difference = float((vectors - prepared.expected).abs().max())
    print("\nTasks (seconds after the assignment was sent; assigned: confirmed on the chain)")
    print_tasks(tasks)
    print(f"\nThe node earned {earned:,} lamports: {len(tasks)} rewards less the fees of its transactions")
    print("\nSentence similarities")
    print_similarities(SENTENCES, vectors)
    same = difference <= MAX_DIFFERENCE
    judged = "at most" if same else "ABOVE"
    print(f"\nLargest difference from the unsplit model: {difference:.1e} ({judged} {MAX_DIFFERENCE:.0e})\n")
    return same


def main() -> int:
    storage: StorageKind = "s3" if os.environ.get("DEMO_STORAGE", "file") == "s3" else "file"
    return run(demo(storage))


if __name__ == "__main__":
    sys.exit(main())
