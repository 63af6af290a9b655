"""`splitup-node publish`: pieces into storage."""

import argparse
from pathlib import Path

from cli.commands.running import existing, run, settings_of
from requester.published import publish_folder
from requester.session import open_session
from requester.settings import RequesterSettings


def main() -> int:
    parser = argparse.ArgumentParser(description="Put packages and weights where nodes find them.")
    parser.add_argument("folder", type=Path, help="what splitup-node split wrote")
    return run(publish(parser.parse_args()))


async def publish(args: argparse.Namespace) -> None:
    folder = existing(args.folder, "the folder")
    async with open_session(settings_of(RequesterSettings)) as session:
        index = await publish_folder(session.storage, session.publish_prefix, session.requester, folder)
    for number, entry in enumerate(index.pieces):
        print(f"piece {number}: modelId {entry.model_id}, weights {entry.weights_uri or 'none'}")
