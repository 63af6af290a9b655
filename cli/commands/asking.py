"""What an operator's commands have in common: the journal beside the listener, and a request in it."""

import asyncio
import time
from pathlib import Path
from typing import Final

from cli.commands.plain import plain
from cli.commands.running import settings_of
from listener.journal.beside import JournalBeside
from listener.journal.books import Request
from listener.journal.opening import is_held
from listener.journal.states import RequestName, RequestState
from listener.settings import JournalSettings

PATIENCE_S: Final = 5.0
"""So long the command waits for the listener's answer, which comes within a second where it is well."""
LOOK_EVERY_S: Final = 0.1


def opened() -> JournalBeside:
    """The journal that the settings name. Raises JournalError where there is none."""
    return JournalBeside(settings_of(JournalSettings).journal)


async def ask(name: RequestName, argument: str = "") -> bool:
    """Ask the listener through the journal and print its answer. False: it refuses. Raises JournalError."""
    path = settings_of(JournalSettings).journal
    with JournalBeside(path) as journal:
        number = await journal.ask(name, argument, int(time.time()))
        request = await answered(journal, number, path)
    match request.state:
        case RequestState.ASKED if is_held(path):
            print("asked; the listener has not answered yet: it is busy, and will do it")
        case RequestState.ASKED:
            print("asked; the listener does not run: it will do it at its next start")
        case _:
            print(f"{request.state}: {plain(request.answer)}")
    return request.state is not RequestState.REFUSED


async def answered(journal: JournalBeside, number: int, path: Path) -> Request:
    """The request, once it is answered, nobody is there to answer it, or patience ends."""
    end = time.monotonic() + PATIENCE_S
    while True:
        request = await journal.request(number)
        if request.state is not RequestState.ASKED or time.monotonic() > end or not is_held(path):
            return request
        await asyncio.sleep(LOOK_EVERY_S)
