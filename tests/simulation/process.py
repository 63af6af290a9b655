"""What ends with the listener's process: once it is dead, nothing that it still does reaches the world."""

import asyncio
from collections.abc import Callable

import httpx


class Gate:
    """Between one process of the listener and the world. `dies_at` counts its effects: it is killed at that one."""

    def __init__(self, dies_at: int | None, trace: Callable[[str], None]) -> None:
        self._dies_at = dies_at
        self._trace = trace
        self.effects = 0
        self.is_dead = False
        self.died = asyncio.Event()

    def effect(self, what: str) -> None:
        """Called before and after each effect on the world. Raises ConnectError once the process is dead."""
        if not self.is_dead:
            self.effects += 1
            if self.effects == self._dies_at:
                self._trace(f"killed at effect {self.effects}: {what}")
                self.die()
        if self.is_dead:
            raise httpx.ConnectError("this process is dead")

    def die(self) -> None:
        self.is_dead = True
        self.died.set()
