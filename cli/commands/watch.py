"""`splitup-node watch`: one task to its end."""

import argparse
import asyncio
from pathlib import Path

import safetensors.torch

from cli.commands.running import run, settings_of
from listener.chain.accounts import Execution
from requester.session import open_session
from requester.settings import RequesterSettings
from requester.watch import watch
from shared.ids import TaskKey, parse_execution_id, parse_task_id


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Wait for a task's end, check its outputs, and reclaim what is due. Exits 1 where it failed, was "
        "cancelled or expired."
    )
    parser.add_argument("execution_id")
    parser.add_argument("task_id")
    parser.add_argument("--outputs", type=Path, help="safetensors file to write the outputs to, named 0, 1, …")
    return run(watch_task(parser.parse_args()))


async def watch_task(args: argparse.Namespace) -> None:
    pair = TaskKey(parse_execution_id(args.execution_id), parse_task_id(args.task_id))
    async with open_session(settings_of(RequesterSettings)) as session:
        completed = await watch(session, pair, on_state=tell)
    print(f"paid {completed.execution.reward:,} lamports, signature {completed.ending.signature}")
    for uri, tensor in completed.outputs:
        print(f"output {uri} {tensor.dtype} {list(tensor.shape)}")
    if args.outputs:
        named = {str(place): tensor for place, (_, tensor) in enumerate(completed.outputs)}
        await asyncio.to_thread(safetensors.torch.save_file, named, args.outputs)


def tell(execution: Execution) -> None:
    print(f"{execution.state.lower()}, node {execution.assigned_node}, attempt {execution.attempt}", flush=True)
