"""`splitup-node cancel`: one task's notice, and the reward back."""

import argparse

from cli.commands.running import run, settings_of
from requester.cancel import cancel
from requester.session import open_session
from requester.settings import RequesterSettings
from shared.ids import TaskKey, parse_execution_id, parse_task_id


def main() -> int:
    parser = argparse.ArgumentParser(description="Cancel a task, wait out the notice, take back what it holds.")
    parser.add_argument("execution_id")
    parser.add_argument("task_id")
    return run(cancel_task(parser.parse_args()))


async def cancel_task(args: argparse.Namespace) -> None:
    pair = TaskKey(parse_execution_id(args.execution_id), parse_task_id(args.task_id))
    async with open_session(settings_of(RequesterSettings)) as session:
        cancelled = await cancel(session, pair, on_wait=tell)
    print(f"{cancelled.state.lower()}; {cancelled.returned:,} lamports are back")


def tell(seconds: float) -> None:
    print(f"the notice ends in {seconds:.0f} s", flush=True)
